"""Claims that cannot be measured yet, each with the part of the library that it waits for."""

PENDING = {
    "N15": (
        "cross-modal fusion in frequency space works without attention.",
        "the multimodal model",
    ),
}
