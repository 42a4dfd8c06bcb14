"""A linear classifier in closed form: what a feature tells without the help of a network."""

import numpy as np

RIDGE = 1e-3


def fit_linear(inputs: np.ndarray, labels: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """Fits a ridge regression of one-hot labels, argmin_W ‖[X 1] W − Y‖² + λ N ‖W‖².

    Args:
        inputs: X, real, [N, d].
        labels: classes 0 … C − 1, int, [N].
        ridge: λ.
    Returns:
        W, [d + 1, C], the bias in the last row.
    Raises:
        ValueError: if there is not one label for each row.
    """
    if inputs.ndim != 2 or labels.shape != inputs.shape[:1]:
        raise ValueError(
            f"expected inputs [N, d] and labels [N], got {inputs.shape} and {labels.shape}."
        )
    rows = np.hstack([inputs, np.ones((len(inputs), 1))]).astype(np.float64)
    gram = rows.T @ rows + ridge * len(rows) * np.eye(rows.shape[1])
    return np.linalg.solve(gram, rows.T @ np.eye(labels.max() + 1)[labels])


def linear_accuracy(weights: np.ndarray, inputs: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of rows whose largest output is their label's."""
    return float(np.mean(np.argmax(inputs @ weights[:-1] + weights[-1], axis=1) == labels))
