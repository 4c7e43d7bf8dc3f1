//! Kinds that come at run time: a row of the table made of a
//! CustomResourceDefinition, and what its versions do to objects.
//!
//! A definition is read in full when its row is made; the schema of a version is
//! compiled when an object of it is first handled, because most of what is installed is
//! seldom used. Until then a row keeps but the bytes that the store keeps anyway.

mod strategy;
mod version;

use crate::contract::{Column, Kind, Subresource};
use crate::intern::{intern, intern_subresources, intern_texts};
use crate::row::{GET_PATCH_UPDATE, SCALE, sub};
use crate::rules::PLAIN;
use crate::tree::Tree;
use serde_json::Value;
use skiff_api::schema::{Type, api_version, split_api_version};
use skiff_custom::{Path, Schema, defaults, definition, meta, prune};
use std::sync::Arc;

use version::{Compiled, Version};
pub use version::{Conversion, ScalePaths, priority};

const VERBS: &[&str] = &[
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];
/// The JSON of a definition, as the store has it.
pub type Source = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// What a kind brings that is not in the built-in table.
pub struct CustomKind {
    source: Source,
    group: &'static str,
    kind: &'static str,
    storage: &'static str,
    versions: Vec<Version>,
    /// Selectable fields of all versions, and the way to each.
    fields: Vec<(&'static str, Vec<String>)>,
    field_names: &'static [&'static str],
    pub conversion: Conversion,
    /// The definition is being deleted: nothing new may come.
    pub terminating: bool,
    /// Changes with the definition's spec, and is the same on every server.
    pub stamp: u64,
    /// The revision at which the definition last changed: what was stored later was
    /// stored under this schema.
    pub since: u64,
}

/// The row of an accepted definition.
pub fn kind_of(definition: &Value, source: Source, since: u64) -> Kind {
    let (spec, names) = (definition.at("spec"), definition.at("status.acceptedNames"));
    let custom = CustomKind::new(definition, source, since);
    let mut served: Vec<&'static str> = custom.versions.iter().filter(|v| v.served).map(|v| v.name).collect();
    served.sort_by_key(|v| priority(v));
    let texts = |key: &str| -> Vec<&str> { names.items(key).iter().filter_map(Value::as_str).collect() };
    let (group, plural) = (custom.group, intern(names.text("plural")));
    Kind {
        group,
        versions: intern_texts(&served),
        storage_version: custom.storage,
        kind: custom.kind,
        list_kind: intern(names.text("listKind")),
        plural,
        singular: intern(names.text("singular")),
        short_names: intern_texts(&texts("shortNames")),
        categories: intern_texts(&texts("categories")),
        namespaced: spec.text("scope") == "Namespaced",
        verbs: VERBS,
        subresources: subresources(&custom),
        columns: crate::row::DEFAULT_COLUMNS,
        strategy: &PLAIN,
        storage: (group, plural),
        custom: Some(Arc::new(custom)),
    }
}

fn subresources(custom: &CustomKind) -> &'static [Subresource] {
    let served = || custom.versions.iter().filter(|v| v.served);
    let mut list = Vec::new();
    if let Some(first) = served().find(|v| v.status) {
        list.push(sub("status", custom.group, first.name, custom.kind, GET_PATCH_UPDATE));
    }
    if served().any(|v| v.scale.is_some()) {
        list.push(SCALE);
    }
    intern_subresources(&list)
}

fn stamp(spec: &Value) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    spec.to_string().hash(&mut hasher);
    hasher.finish()
}

impl CustomKind {
    fn new(definition: &Value, source: Source, since: u64) -> Self {
        let spec = definition.at("spec");
        let mut versions: Vec<Version> = spec.items("versions").iter().map(Version::new).collect();
        version::tell_deprecations(&mut versions, spec.text("group"), spec.text("names.kind"));
        let mut fields: Vec<(&'static str, Vec<String>)> = Vec::new();
        for version in spec.items("versions") {
            for field in version.items("selectableFields") {
                let path = field.text("jsonPath");
                let name = intern(path.trim_start_matches('.'));
                let way = skiff_custom::check::field_path::follow(path, version.at("schema.openAPIV3Schema"), false);
                if let (Ok(way), false) = (way, fields.iter().any(|(known, _)| *known == name)) {
                    fields.push((name, way.names));
                }
            }
        }
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        Self {
            source,
            group: intern(spec.text("group")),
            kind: intern(definition.text("status.acceptedNames.kind")),
            storage: intern(definition::storage_version(definition)),
            versions,
            field_names: intern_texts(&names),
            fields,
            conversion: Conversion::new(spec.at("conversion")),
            terminating: definition.has("metadata.deletionTimestamp"),
            stamp: stamp(spec),
            since,
        }
    }

    fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.name == name)
    }

    /// The version that an object says it is of.
    fn version_of(&self, object: &Value) -> Option<&Version> {
        self.version(split_api_version(object.text("apiVersion")).1)
    }

    /// What the version's schema was compiled to.
    fn compiled<'a>(&'a self, version: &'a Version) -> &'a Compiled {
        version.compiled(|| {
            let definition: Value = serde_json::from_slice((*self.source).as_ref()).unwrap_or_default();
            let found = definition
                .items("spec.versions")
                .iter()
                .find(|v| v.text("name") == version.name);
            Compiled::new(found.unwrap_or(&Value::Null), self.group, self.kind)
        })
    }

    fn schema_of(&self, version: &str) -> Option<&Schema> {
        self.version(version).map(|v| &self.compiled(v).schema)
    }

    /// The schema of a version as it was written, for OpenAPI.
    pub fn openapi_schema(&self, version: &str) -> Option<Value> {
        let mut definition: Value = serde_json::from_slice((*self.source).as_ref()).ok()?;
        let versions = definition["spec"]["versions"].as_array_mut()?;
        let found = versions.iter_mut().find(|v| v.text("name") == version)?;
        Some(found["schema"]["openAPIV3Schema"].take()).filter(Value::is_object)
    }

    pub fn type_in(&self, version: &str) -> Option<&Type> {
        self.version(version).map(|v| &self.compiled(v).ty)
    }

    pub fn columns(&self, version: &str) -> &[Column] {
        self.version(version).map_or(&[], |v| &self.compiled(v).columns)
    }

    /// Cells for the columns of a version.
    pub fn row(&self, version: &str, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let mut cells = vec![object.at("metadata.name").clone()];
        if let Some(version) = self.version(version) {
            cells.extend(
                self.compiled(version)
                    .printed
                    .iter()
                    .map(|column| column.cell(object, now)),
            );
        }
        cells
    }

    /// The text that users of a deprecated version are told.
    pub fn deprecation(&self, version: &str) -> Option<&str> {
        self.version(version)?.deprecation.as_deref()
    }

    /// Where a version keeps its replicas, if it can be scaled.
    pub fn scale(&self, version: &str) -> Option<&ScalePaths> {
        self.version(version)?.scale.as_ref()
    }

    /// Whether a version has the subresource.
    pub fn has_subresource(&self, version: &str, name: &str) -> bool {
        self.version(version).is_some_and(|v| match name {
            "status" => v.status,
            "scale" => v.scale.is_some(),
            _ => false,
        })
    }

    pub fn storage_api_version(&self) -> String {
        api_version(self.group, self.storage)
    }

    /// Reads an object that was sent in a version: drops what the schema does not know
    /// (the paths are answered) and nulls that say nothing. `Err`: its metadata cannot be read.
    pub fn read(&self, version: &str, object: &mut Value) -> Result<Vec<String>, String> {
        let Some(schema) = self.schema_of(version) else {
            return Ok(Vec::new());
        };
        let mut unknown = match object.get_mut("metadata") {
            Some(metadata) => meta::coerce_metadata(metadata, &Path::new("metadata"))
                .map_err(|why| why.replace("ObjectMeta.", "ObjectMeta.metadata."))?,
            None => Vec::new(),
        };
        unknown.extend(prune::prune(schema, object));
        defaults::drop_nulls(schema, object);
        let embedded = meta::coerce(schema, object, false).map_err(|e| e.to_string())?;
        unknown.extend(embedded);
        Ok(unknown)
    }

    /// Makes an object that was stored what its version's schema says now.
    pub fn complete(&self, object: &mut Value) {
        let Some(version) = self.version_of(object) else { return };
        let schema = &self.compiled(version).schema;
        prune::prune(schema, object);
        defaults::drop_nulls(schema, object);
        defaults::fill(schema, object);
    }

    /// Whether an object in one version is had in another without asking anybody.
    pub fn converts_here(&self, object: &Value, to: &str) -> bool {
        object.text("apiVersion") == to || matches!(self.conversion, Conversion::None)
    }

    /// To another version (`apiVersion`), from the one that the object says it is of.
    pub fn convert(&self, to: &str, object: &mut Value) -> Result<(), String> {
        if object.text("apiVersion") == to {
            return Ok(());
        }
        if !matches!(self.conversion, Conversion::None) {
            return Err(format!(
                "{} is had in {to} only through its conversion webhook",
                object.text("apiVersion")
            ));
        }
        object["apiVersion"] = to.into();
        Ok(())
    }
}
