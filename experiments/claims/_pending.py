"""Claims that cannot be measured yet, each with the part of the library that it waits for."""

LONG_CONTEXT = "the long-context model"

PENDING = {
    "N12": (
        "memory grows sub-linearly from 8K to 256K tokens, at 1.8 to 3.7 times a Transformer's speed.",
        LONG_CONTEXT,
    ),
    "N13": (
        "sequences 30 times longer than a Transformer's fit into the same memory.",
        LONG_CONTEXT,
    ),
    "N15": (
        "cross-modal fusion in frequency space works without attention.",
        "the multimodal model",
    ),
}
