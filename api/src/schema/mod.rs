//! The descriptor table: what every API type is made of. Codecs, defaulting,
//! patches and OpenAPI all read it, so that no fact about a type stands twice.
//!
//! Owns the shape of a descriptor and the table of built-in types, parsed from
//! `api/descriptors/*.txt` (see [`text`] for the format) on first use. It holds
//! facts only: no validation rules, no per-kind behaviour.

mod text;
mod zero;

use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// OpenAPI name prefix of the types every kind shares (`ObjectMeta`, `Status`, ...).
pub const META_V1: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Names are borrowed from the embedded text for built-in types and owned for
/// types that come at run time.
pub type Name = Cow<'static, str>;

/// One struct type.
#[derive(Debug, Default)]
pub struct Type {
    /// OpenAPI name, e.g. `io.k8s.api.apps.v1.DeploymentSpec`.
    pub name: Name,
    /// API group and version of the package the type is defined in.
    pub group: Name,
    pub version: Name,
    /// Has `apiVersion` and `kind`.
    pub is_kind: bool,
    /// The whole object is replaced by server-side apply, never merged.
    pub atomic: bool,
    /// Members that are not named may be there too, in whatever form.
    pub open: bool,
    /// Ordered by JSON name.
    fields: Vec<Field>,
    /// Indices of the fields that exist in protobuf, ordered by path.
    wire: Vec<u16>,
    /// Indices of the fields that Go's JSON never lacks.
    never_missing: Vec<u16>,
}

/// One member of a struct. The default is an optional string that nothing is known of.
#[derive(Debug)]
pub struct Field {
    /// The JSON name.
    pub name: Name,
    pub shape: Shape,
    /// What the value, each element or each map value is.
    pub kind: Kind,
    /// Must be given, as OpenAPI has it.
    pub required: bool,
    /// A Go pointer: a zero value says something and is kept.
    pub pointer: bool,
    /// Go writes it even when it is zero.
    pub always: bool,
    /// Go leaves this struct out when it is zero, as it does with no other.
    pub omit_zero: bool,
    pub list: ListType,
    /// Keys of a `list=map`.
    pub keys: Vec<Name>,
    /// The field is replaced as a whole by server-side apply although its type is not atomic.
    pub atomic: bool,
    pub patch: Patch,
    /// Strategic merge: the element key.
    pub merge_key: Option<Name>,
    pub default: Option<Value>,
    pub allowed: Vec<Name>,
    path: [u8; MAX_PATH],
    /// See [`Field::zero`].
    zero: Option<Value>,
}

/// The deepest chain of Go embedded structs that JSON flattens
/// (`NamedRuleWithOperations.ruleWithOperations.rule.resources`).
pub const MAX_PATH: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    One,
    List,
    Map,
    /// `map<string, []T>`; in protobuf the list is wrapped in a message.
    MapOfList,
}

#[derive(Debug, Clone)]
pub enum Kind {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    /// Base64 in JSON.
    Bytes,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    /// Go's duration text in JSON, nanoseconds in protobuf.
    Duration,
    /// Any object; its JSON (or its own protobuf envelope) in protobuf.
    RawExtension,
    /// Any JSON value.
    Json,
    FieldsV1,
    /// `items` of a JSON schema: one schema or a list.
    SchemaOrArray,
    /// `additionalProperties`: a schema or a bool.
    SchemaOrBool,
    /// `dependencies`: a schema or a list of names.
    SchemaOrStrings,
    /// A struct of the built-in table.
    Object(TypeId),
    /// A struct that came at run time.
    Owned(Arc<Type>),
}

/// Index into the built-in table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeId(u16);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListType {
    /// Not a list, or a list without a declared type (treated as atomic).
    #[default]
    Unset,
    Atomic,
    Set,
    Map,
}

/// Strategic-merge strategies of a field; none set means replace lists, merge objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Patch {
    pub merge: bool,
    pub replace: bool,
    pub retain_keys: bool,
}

impl Kind {
    /// The struct type behind this kind, if it is one.
    pub fn as_type(&self) -> Option<&Type> {
        match self {
            Kind::Object(id) => table().types.get(usize::from(id.0)),
            Kind::Owned(t) => Some(t),
            _ => None,
        }
    }

    /// The name Go prints for the type in decoding errors.
    pub fn go_name(&self) -> String {
        match self {
            Kind::String => "string".into(),
            Kind::Bool => "bool".into(),
            Kind::Int32 => "int32".into(),
            Kind::Int64 => "int64".into(),
            Kind::Double => "float64".into(),
            Kind::Bytes => "[]uint8".into(),
            Kind::Quantity => "resource.Quantity".into(),
            Kind::IntOrString => "intstr.IntOrString".into(),
            Kind::Time => "v1.Time".into(),
            Kind::MicroTime => "v1.MicroTime".into(),
            Kind::Duration => "v1.Duration".into(),
            Kind::RawExtension => "runtime.RawExtension".into(),
            Kind::FieldsV1 => "v1.FieldsV1".into(),
            Kind::Json | Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => "v1.JSON".into(),
            Kind::Object(_) | Kind::Owned(_) => self.as_type().map(Type::go_name).unwrap_or_default(),
        }
    }
}

impl Default for Field {
    fn default() -> Self {
        Self {
            name: Name::default(),
            shape: Shape::One,
            kind: Kind::String,
            required: false,
            pointer: true,
            always: false,
            omit_zero: false,
            list: ListType::Unset,
            keys: Vec::new(),
            atomic: false,
            patch: Patch::default(),
            merge_key: None,
            default: None,
            allowed: Vec::new(),
            path: [0; MAX_PATH],
            zero: None,
        }
    }
}

impl Field {
    /// A member of a type that comes at run time: it is not in protobuf, and what it
    /// holds is kept as it is, zero or not.
    pub fn new(name: impl Into<Name>, shape: Shape, kind: Kind) -> Self {
        Self {
            name: name.into(),
            shape,
            kind,
            ..Self::default()
        }
    }

    /// Counts as there with this value where nothing was given.
    pub fn with_zero(self, zero: Value) -> Self {
        Self {
            zero: Some(zero),
            ..self
        }
    }

    /// What Go's JSON has where nothing was given: `{}` for a struct, null for a list
    /// that is always written; `None` where the member is left out.
    pub fn zero(&self) -> Option<&Value> {
        self.zero.as_ref()
    }

    /// A zero value that was given is left out again.
    pub fn drops_zero(&self) -> bool {
        !self.always && !self.pointer
    }

    /// Protobuf field numbers from the enclosing message inwards; empty for JSON-only fields.
    pub fn path(&self) -> &[u8] {
        let len = self.path.iter().position(|n| *n == 0).unwrap_or(MAX_PATH);
        &self.path[..len]
    }

    pub(crate) fn wire_key(&self) -> [u8; MAX_PATH] {
        self.path
    }

    /// The struct type of the value, the elements or the map values.
    pub fn as_type(&self) -> Option<&Type> {
        self.kind.as_type()
    }

    pub fn go_type(&self) -> String {
        match self.shape {
            Shape::One => self.kind.go_name(),
            Shape::List => format!("[]{}", self.kind.go_name()),
            Shape::Map => format!("map[string]{}", self.kind.go_name()),
            Shape::MapOfList => format!("map[string][]{}", self.kind.go_name()),
        }
    }
}

impl Type {
    /// A type that is not in the built-in table (custom resources).
    pub fn new(name: Name, group: Name, version: Name, is_kind: bool, fields: Vec<Field>) -> Self {
        let mut made = Self {
            name,
            group,
            version,
            is_kind,
            fields,
            ..Self::default()
        };
        made.index();
        made
    }

    pub fn field(&self, json_name: &str) -> Option<&Field> {
        self.fields
            .binary_search_by(|f| f.name.as_ref().cmp(json_name))
            .ok()
            .map(|i| &self.fields[i])
    }

    /// Fields that Go's JSON has even when nothing was given for them.
    pub fn never_missing(&self) -> impl Iterator<Item = &Field> {
        self.never_missing.iter().map(|i| &self.fields[usize::from(*i)])
    }

    /// All fields by JSON name.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Group, version and kind, where the type is a kind.
    pub fn gvk(&self) -> (&str, &str, &str) {
        (&self.group, &self.version, self.short())
    }

    /// `DeploymentSpec`.
    pub fn short(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }

    /// `v1.DeploymentSpec`, as Go prints it.
    pub fn go_name(&self) -> String {
        let mut parts = self.name.rsplit('.');
        let short = parts.next().unwrap_or_default();
        format!("{}.{short}", parts.next().unwrap_or_default())
    }

    /// Position in `wire` of the first field at or after `key`.
    pub(crate) fn wire_from(&self, key: [u8; MAX_PATH]) -> Option<&Field> {
        let at = self.wire.partition_point(|i| self.fields[usize::from(*i)].path < key);
        self.wire.get(at).map(|i| &self.fields[usize::from(*i)])
    }

    fn index(&mut self) {
        self.fields.sort_by(|a, b| a.name.cmp(&b.name));
        self.wire = (0..self.fields.len() as u16)
            .filter(|i| self.fields[usize::from(*i)].path[0] != 0)
            .collect();
        self.wire.sort_by_key(|i| self.fields[usize::from(*i)].path);
    }
}

/// All built-in types.
struct Table {
    types: Vec<Type>,
    by_name: HashMap<Name, TypeId>,
    /// The kinds, ordered by group, version and kind: looked up without building a key.
    kinds: Vec<TypeId>,
}

fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(text::load);
    &TABLE
}

/// Forces the table to be parsed now; otherwise the first lookup does it.
pub fn warm_up() {
    table();
}

/// By OpenAPI name (`io.k8s.api.core.v1.Pod`).
pub fn lookup(name: &str) -> Option<&'static Type> {
    let table = table();
    table.by_name.get(name).map(|id| &table.types[usize::from(id.0)])
}

/// A built-in type as a member of types that come at run time.
pub fn lookup_kind(name: &str) -> Option<Kind> {
    table().by_name.get(name).map(|id| Kind::Object(*id))
}

/// By group, version and kind. `DeleteOptions`, `ListOptions` and the like are found in every group.
pub fn lookup_gvk(group: &str, version: &str, kind: &str) -> Option<&'static Type> {
    let table = table();
    let find = |group: &str, version: &str| {
        let wanted = (group, version, kind);
        let at = table
            .kinds
            .binary_search_by(|id| table.types[usize::from(id.0)].gvk().cmp(&wanted))
            .ok()?;
        Some(&table.types[usize::from(table.kinds[at].0)])
    };
    find(group, version).or_else(|| if is_meta_kind(kind) { find("", "v1") } else { None })
}

/// Kinds of meta/v1 that are registered in every API group.
pub fn is_meta_kind(kind: &str) -> bool {
    matches!(
        kind,
        "DeleteOptions" | "ListOptions" | "GetOptions" | "CreateOptions" | "UpdateOptions" | "PatchOptions"
    )
}

/// Splits `apps/v1` or `v1` into group and version.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// Joins group and version into an `apiVersion`.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_string()
    } else {
        format!("{group}/{version}")
    }
}

/// Every built-in type, in the order of the descriptor files.
pub fn all() -> &'static [Type] {
    &table().types
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_types_and_fields() {
        let pod = lookup_gvk("", "v1", "Pod").expect("Pod");
        assert_eq!(pod.name, "io.k8s.api.core.v1.Pod");
        let spec = pod.field("spec").and_then(Field::as_type).expect("PodSpec");
        let containers = spec.field("containers").expect("containers");
        assert_eq!(
            (containers.shape, containers.list, containers.patch.merge),
            (Shape::List, ListType::Map, true)
        );
        assert_eq!(containers.merge_key.as_deref(), Some("name"));
        assert_eq!(containers.go_type(), "[]v1.Container");
        let volume = lookup("io.k8s.api.core.v1.Volume").expect("Volume");
        assert_eq!(volume.field("emptyDir").expect("emptyDir").path(), [2, 2]);
        assert!(spec.field("nope").is_none());
        assert!(lookup_gvk("apps", "v1", "DeleteOptions").is_some());
        assert!(lookup_gvk("apps", "v1", "Pod").is_none());
        let port = lookup("io.k8s.api.core.v1.ContainerPort")
            .expect("port")
            .field("protocol")
            .expect("protocol");
        assert_eq!(port.default, Some("TCP".into()));
    }

    #[test]
    fn every_list_map_names_its_keys_and_paths_are_unique() {
        for ty in all() {
            for pair in ty.wire.windows(2) {
                let (a, b) = (&ty.fields[usize::from(pair[0])], &ty.fields[usize::from(pair[1])]);
                assert!(
                    a.path < b.path && !b.path().starts_with(a.path()),
                    "{}: {} and {}",
                    ty.name,
                    a.name,
                    b.name
                );
            }
            for field in ty.fields() {
                assert_eq!(
                    field.list == ListType::Map,
                    !field.keys.is_empty(),
                    "{}.{}",
                    ty.name,
                    field.name
                );
                if let Some(key) = &field.merge_key {
                    let element = field.as_type().expect("merge keys are of objects");
                    assert!(element.field(key).is_some(), "{}.{}", ty.name, field.name);
                }
            }
        }
    }

    #[test]
    fn parses_fast_enough_for_start() {
        let begin = std::time::Instant::now();
        let table = text::load();
        let took = begin.elapsed();
        assert!(table.types.len() > 550, "{}", table.types.len());
        let fields: usize = table.types.iter().map(|t| t.fields.len()).sum();
        println!(
            "{} types, {fields} fields of {} bytes in {took:?}",
            table.types.len(),
            size_of::<Field>()
        );
        assert!(
            took.as_millis() < 100,
            "debug build, 20 times the release figure: {took:?}"
        );
    }
}
