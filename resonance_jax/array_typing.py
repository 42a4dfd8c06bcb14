"""The axis letters and array types used in every signature of the package.

Letters: `*b` any leading batch axes, `b` one batch axis, `t` time (the signal axis), `d` features, `k` selected
frequencies, `m` kernel length, `h` and `w` image height and width, `c` input channels, `o` outputs,
`f` all bins of a real spectrum, `i` and `j` rows and columns of a matrix, `n` both axes of a square one, `p` patterns,
`l` layers, `*g` a heads axis or none, `v` ids of a vocabulary. In a point set, n points of m coordinates.
"""

import jax
import numpy as np
from jaxtyping import Bool, Complex, Float, Inexact, Integer

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
FeatureSpectrum = Complex[Array, "*b d f"]
Patterns = Complex[Array, "*g p f"]
LayerPatterns = Complex[Array, "l *g f"]
PatternKnots = Float[Array, "*b _"]
ClassScores = Float[Array, "*b o"]
SquareMatrix = Inexact[Array, "*b n n"]
AnyReal = Float[Array, "*s"]
AnyComplex = Complex[Array, "*s"]
AnyShape = Float[Array, "..."]
ComplexAnyShape = Complex[Array, "..."]
Scalar = Float[Array, ""]
Matrix = Float[Array, "i j"]
Covariance = Float[Array, "j j"]
PowerSpectrum = Float[Array, "*b f d"]
Quaternions = Float[Array, "... 4"]
QuaternionSequence = Float[Array, "*b t d 4"]
Vectors = Float[Array, "... 3"]
ComplexPair = Complex[Array, "... 2"]
SO4Matrices = Float[Array, "... 4 4"]
Curves = Float[Array, "*b t"]
PointSet = Float[Array, "n m"]
PointSets = Float[Array, "*b n m"]
GridOffsets = Float[Array, "_ m"]
BinaryImages = Bool[Array, "*b h w"]
KeySequence = Float[Array, "*b t i"]
ValueSequence = Float[Array, "*b t j"]
Rates = Float[Array, "*b t"]
FastWeights = Float[Array, "*b j i"]
Keys = Float[Array, "*b i"]
Values = Float[Array, "*b j"]
StepMask = Bool[Array, "*b"]
RecentSteps = Float[Array, "*b _ d"]
AnyVectors = Inexact[Array, "... _"]
IndexArray = Integer[Array, "..."]
TokenIds = Integer[Array, "*b"]
TokenScores = Float[Array, "*b"]
TokenVectors = Float[Array, "*b d"]
LogProbabilities = Float[Array, "*b v"]
TimeSequence = Float[Array, "..."]
PoleLogDecay = Float[Array, "h k"]
PolePhase = Float[Array, "h k"]
HeadWeights = Complex[Array, "h k"]
Poles = Complex[Array, "h k"]
Kernels = Float[Array, "h _"]
ResonatorState = Complex[Array, "*b k d"]
Segments = Integer[Array, "*b t"]
SequenceLengths = Integer[Array, "*b"]
ChannelSequence = Float[Array, "d b t"]
ProjectedChannels = Float[Array, "o b t"]
TokenSequence = Integer[Array, "*b t"]
TokenLogits = Float[Array, "*b t v"]
