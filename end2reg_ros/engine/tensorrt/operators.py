"""The ONNX operators that TensorRT 10.x and 11.x both list as supported by their ONNX parser, and what they take.

Where the list is from: ``docs/operators.md`` of the project onnx/onnx-tensorrt, at its release 10.1 (the same as that of
10.0; read whole), which is the shortest of the lists of 10.x and 11.x: 10.15's (read whole) and that of 11.2 hold all of
it and add operators that are left out here. Of 11.2's list a catalogue that a third party generated from it was read, not
the document itself. The types are those of 10.1's list as well; bfloat16 and the quantised types, which no graph of ours
uses, are left out. A list says what a parser takes, not that a given graph builds: none of this was run in TensorRT.

Since 10.0 int64 is a type of its own, also of an input or output; float64 is cast down and is a fault here. The one
operator that the lists allow in quantised types only (DequantizeLinear) is left out.
"""

from __future__ import annotations

#: Opsets of the default domain: the oldest that both parsers take, and the newest of TensorRT 10.0 and 10.1 (11.2: 24).
OPSETS = (9, 20)

#: ``K`` of a TopK is to be smaller than this.
TOPK_LIMIT = 3840

FLOAT = frozenset({"FLOAT", "FLOAT16"})
WHOLE = frozenset({"INT32", "INT64"})
BOOL = frozenset({"BOOL"})

_FLOAT = """
    Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv ConvTranspose Cos Cosh CumSum DeformConv
    Dropout Einsum Elu Erf Exp Floor GRU Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample GroupNormalization
    HardSigmoid HardSwish Hardmax ImageScaler InstanceNormalization IsInf LRN LSTM LayerNormalization LeakyRelu Log LogSoftmax
    LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization Mish NonMaxSuppression NonZero PRelu ParametricSoftplus Pow
    QuantizeLinear RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike Reciprocal Resize RoiAlign Round ScaledTanh
    Scan Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu Upsample
"""
_FLOAT_WHOLE = """
    Abs Add ArgMax ArgMin DepthToSpace Div Equal Gelu Greater GreaterOrEqual IsNaN Less LessOrEqual Max Mean Min Mod Mul Neg Pad
    Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
    Relu Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK
"""
_ALL = """
    Cast CastLike Concat Constant ConstantOfShape Expand EyeLike Flatten Gather GatherElements GatherND Identity If Loop OneHot
    Reshape ReverseSequence Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where
"""
_BOOL = "And Not Or Xor"

#: Types of the tensor that an operator works on (see ``DATA_INPUT``), by operator: the whole list.
SUPPORTED: dict[str, frozenset[str]] = {
    **dict.fromkeys(_FLOAT.split(), FLOAT),
    **dict.fromkeys(_FLOAT_WHOLE.split(), FLOAT | WHOLE),
    **dict.fromkeys(_ALL.split(), FLOAT | WHOLE | BOOL),
    **dict.fromkeys(_BOOL.split(), BOOL),
}

#: Which input is the one worked on, where it is not the first.
DATA_INPUT = {"Where": 1}

_SIZE = "how much it gives depends on the data"
_WRITE = "it writes to places that the data names"
_FLOW = "what runs depends on the data"
_CHANCE = "it is random"

#: Listed, but kept out of our graphs: one that has none of them is run by a GPU as one recorded sequence, always the same.
AVOIDED: dict[str, str] = {
    "NonZero": _SIZE,
    "NonMaxSuppression": _SIZE,
    "Range": "its size is a value, not a shape",
    "Scatter": _WRITE,
    "ScatterElements": _WRITE,
    "ScatterND": _WRITE,
    "If": _FLOW,
    "Loop": _FLOW,
    "Scan": _FLOW,
    "GRU": _FLOW,
    "LSTM": _FLOW,
    "RNN": _FLOW,
    "RandomNormal": _CHANCE,
    "RandomNormalLike": _CHANCE,
    "RandomUniform": _CHANCE,
    "RandomUniformLike": _CHANCE,
    "Dropout": "it belongs to training",
}

#: Not listed by either, and what to write instead.
INSTEAD: dict[str, str] = {
    "Unique": "number the cells before the graph",
    "Compress": "multiply by a mask",
    "Det": "write the products out",
    "Bernoulli": "decide by a threshold",
    "BitShift": "use Mul",
}

#: Inputs that must be constants, by operator: sizes, axes and counts.
CONSTANT_INPUTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys([name for name in SUPPORTED if name.startswith("Reduce")], (1,)),
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
}
