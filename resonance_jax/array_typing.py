"""The axis letters and array types used in every signature of the package.

Letters: `*b` any leading batch axes, `b` one batch axis, `t` time (the signal axis), `d` features, `k` selected
frequencies, `m` kernel length, `h` and `w` image height and width, `c` input channels, `o` outputs.
"""

import jax
import numpy as np
from jaxtyping import Bool, Complex, Float, Integer

Array = jax.Array | np.ndarray

RealSequence = Float[Array, "*b t d"]
Kernel = Float[Array, "... m _"]
BroadcastSequence = Float[Array, "... t d"]
Spectrum = Complex[Array, "*b k d"]
SequenceMask = Bool[Array, "*b t"]
ComplexWeights = Complex[Array, "k d"]
Interference = Complex[Array, "k k"]
Frequencies = Float[Array, "k"]
Bins = Integer[Array, "k"]
AnyReal = Float[Array, "*s"]
AnyComplex = Complex[Array, "*s"]
