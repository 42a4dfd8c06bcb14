"""Claims that cannot be measured yet, each with the part of the library that it waits for."""

MEMORY = "holographic memory"
LONG_CONTEXT = "the long-context model"

PENDING = {
    "N9": (
        "capacity (A/λ²) log₂(1+SNR): 512, 1024, 2048 numbers hold 250, 500, 1000 patterns at error 0.04 to 0.05.",
        MEMORY,
    ),
    "N12": (
        "memory grows sub-linearly from 8K to 256K tokens, at 1.8 to 3.7 times a Transformer's speed.",
        LONG_CONTEXT,
    ),
    "N13": (
        "sequences 30 times longer than a Transformer's fit into the same memory.",
        LONG_CONTEXT,
    ),
    "N14": (
        "vocabularies of 500K to 1M tokens by hierarchical frequency embeddings.",
        "frequency embeddings",
    ),
    "N15": (
        "cross-modal fusion in frequency space works without attention.",
        "the multimodal model",
    ),
}
