//! The messages of `onnx.proto` that a graph of dense layers needs, with the field numbers of that file; what is left out is optional there.

use prost::{Enumeration, Message, Oneof};

/// `ModelProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(int64, tag = "1")]
    pub(super) ir_version: i64,
    #[prost(string, tag = "2")]
    pub(super) producer_name: String,
    #[prost(string, tag = "3")]
    pub(super) producer_version: String,
    #[prost(int64, tag = "5")]
    pub(super) model_version: i64,
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub(super) opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    pub(super) metadata_props: Vec<Property>,
}

/// `OperatorSetIdProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSet {
    #[prost(string, tag = "1")]
    pub(super) domain: String,
    #[prost(int64, tag = "2")]
    pub(super) version: i64,
}

/// `StringStringEntryProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Property {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<Node>,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub(super) input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub(super) output: Vec<ValueInfo>,
}

/// `NodeProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub(super) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) output: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(string, tag = "4")]
    pub(super) op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) attribute: Vec<Attribute>,
}

/// `AttributeProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, optional, tag = "2")]
    f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    i: Option<i64>,
    #[prost(enumeration = "AttributeType", tag = "20")]
    kind: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
enum AttributeType {
    Undefined = 0,
    Float = 1,
    Int = 2,
}

impl Attribute {
    pub(super) fn float(name: &str, value: f32) -> Self {
        Attribute { name: name.to_owned(), f: Some(value), i: None, kind: AttributeType::Float.into() }
    }

    pub(super) fn integer(name: &str, value: i64) -> Self {
        Attribute { name: name.to_owned(), f: None, i: Some(value), kind: AttributeType::Int.into() }
    }
}

/// `TensorProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(enumeration = "DataType", tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    pub(super) name: String,
    /// Little-endian.
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
enum DataType {
    Undefined = 0,
    Float = 1,
    Int64 = 7,
}

impl Tensor {
    pub(super) fn floats(name: &str, shape: &[usize], floats: &[f32]) -> Self {
        Tensor {
            dims: shape.iter().map(|&dim| dim as i64).collect(),
            data_type: DataType::Float.into(),
            name: name.to_owned(),
            raw_data: floats.iter().flat_map(|float| float.to_le_bytes()).collect(),
        }
    }

    /// One dimension.
    pub(super) fn integers(name: &str, integers: &[i64]) -> Self {
        Tensor {
            dims: vec![integers.len() as i64],
            data_type: DataType::Int64.into(),
            name: name.to_owned(),
            raw_data: integers.iter().flat_map(|integer| integer.to_le_bytes()).collect(),
        }
    }
}

/// `ValueInfoProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<Type>,
}

/// `TypeProto`.
#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorType>,
}

/// `TypeProto.Tensor`.
#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(enumeration = "DataType", tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

/// `TensorShapeProto`.
#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

/// `TensorShapeProto.Dimension`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Dimension {
    #[prost(oneof = "Extent", tags = "1, 2")]
    extent: Option<Extent>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Extent {
    #[prost(int64, tag = "1")]
    Value(i64),
    #[prost(string, tag = "2")]
    Parameter(String),
}

impl Dimension {
    pub(super) fn of(extent: usize) -> Self {
        Dimension { extent: Some(Extent::Value(extent as i64)) }
    }

    /// As long as what is given.
    pub(super) fn named(name: &str) -> Self {
        Dimension { extent: Some(Extent::Parameter(name.to_owned())) }
    }
}

impl ValueInfo {
    pub(super) fn floats(name: &str, dim: Vec<Dimension>) -> Self {
        let tensor = TensorType { elem_type: DataType::Float.into(), shape: Some(Shape { dim }) };
        ValueInfo { name: name.to_owned(), kind: Some(Type { tensor_type: Some(tensor) }) }
    }
}
