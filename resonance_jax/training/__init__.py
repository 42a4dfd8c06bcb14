"""Training: config, optimizer, step, monitor, checkpoint, loop, result, report; import by module path."""
