//! Which media type and shape an answer has, from the Accept header.

use skiff_api::ApiError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

impl Encoding {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// What shape an object or list is sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Form {
    #[default]
    Object,
    /// `as=Table`: rows with the kind's columns.
    Table,
    /// `as=PartialObjectMetadata` or `as=PartialObjectMetadataList`.
    Metadata,
    /// `as=APIGroupDiscoveryList`, version v2 or v2beta1.
    Discovery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Negotiated {
    pub encoding: Encoding,
    pub form: Form,
    /// The `v` parameter is a beta of the form (`v1beta1`, `v2beta1`).
    pub beta: bool,
    /// `Metadata` of a list, not of one object.
    pub of_list: bool,
}

impl Negotiated {
    /// `apiVersion` of tables and metadata.
    pub fn meta_version(&self) -> &'static str {
        if self.beta {
            "meta.k8s.io/v1beta1"
        } else {
            "meta.k8s.io/v1"
        }
    }

    /// Metadata of a list are asked for as such, and of one object as such.
    pub fn check_list(&self, list: bool) -> Result<(), ApiError> {
        match (self.form, self.of_list, list) {
            (Form::Metadata, false, true) => Err(ApiError::not_acceptable(
                "you requested PartialObjectMetadata, but the requested object is a list",
            )),
            (Form::Metadata, true, false) => Err(ApiError::not_acceptable(
                "you requested PartialObjectMetadataList, but the requested object is not a list",
            )),
            _ => Ok(()),
        }
    }
}

/// Picks the first clause that can be served. `forms` are those that the
/// resource can be sent in besides `Object`.
pub fn negotiate(accept: &str, forms: &[Form]) -> Result<Negotiated, ApiError> {
    if accept.trim().is_empty() {
        return Ok(Negotiated::default());
    }
    let mut clauses: Vec<(&str, f32)> = accept.split(',').map(|c| (c.trim(), quality(c))).collect();
    // Of equals, what is said more exactly.
    clauses.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| wildcards(a.0).cmp(&wildcards(b.0))));
    clauses
        .iter()
        .filter(|(_, q)| *q > 0.0)
        .find_map(|(clause, _)| read_clause(clause, forms))
        .ok_or_else(|| {
            ApiError::not_acceptable(
                "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
            )
        })
}

fn quality(clause: &str) -> f32 {
    clause
        .split(';')
        .skip(1)
        .find_map(|p| p.trim().strip_prefix("q=")?.parse().ok())
        .unwrap_or(1.0)
}

fn wildcards(clause: &str) -> usize {
    clause.split(';').next().map_or(0, |range| range.matches('*').count())
}

fn read_clause(clause: &str, forms: &[Form]) -> Option<Negotiated> {
    let mut pieces = clause.split(';').map(str::trim);
    let encoding = match pieces.next()? {
        "application/json" | "*/*" | "application/*" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        "application/vnd.kubernetes.protobuf" => Encoding::Protobuf,
        _ => return None,
    };
    let (mut kind, mut group, mut version) = ("", "", "");
    for piece in pieces {
        match piece.split_once('=') {
            Some(("as", v)) => kind = v,
            Some(("g", v)) => group = v,
            Some(("v", v)) => version = v,
            Some(("stream", v)) if !matches!(v, "" | "watch") => return None,
            Some(("sv", v)) if !v.is_empty() => return None,
            _ => {}
        }
    }
    let form = match (kind, group) {
        ("", "") if version.is_empty() => Form::Object,
        ("Table", "meta.k8s.io") => Form::Table,
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io") => Form::Metadata,
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io") => Form::Discovery,
        _ => return None,
    };
    let beta = match version {
        "" if form == Form::Object => false,
        "v1" if matches!(form, Form::Table | Form::Metadata) => false,
        "v2" if form == Form::Discovery => false,
        "v1beta1" if matches!(form, Form::Table | Form::Metadata) => true,
        "v2beta1" if form == Form::Discovery => true,
        _ => return None,
    };
    // Upstream has no protobuf form of tables either.
    if form != Form::Object && (!forms.contains(&form) || (form == Form::Table && encoding == Encoding::Protobuf)) {
        return None;
    }
    Some(Negotiated {
        encoding,
        form,
        beta,
        of_list: kind == "PartialObjectMetadataList",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_headers() {
        let forms = [Form::Table, Form::Metadata];
        let cases = [
            ("", Some((Encoding::Json, Form::Object))),
            ("*/*", Some((Encoding::Json, Form::Object))),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
                Some((Encoding::Json, Form::Table)),
            ),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Some((Encoding::Protobuf, Form::Object)),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json",
                Some((Encoding::Json, Form::Object)),
            ),
            (
                "application/json;q=0.5, application/yaml",
                Some((Encoding::Yaml, Form::Object)),
            ),
            ("*/*, application/yaml", Some((Encoding::Yaml, Form::Object))),
            ("application/json;stream=watch", Some((Encoding::Json, Form::Object))),
            ("application/json;stream=tail", None),
            ("application/json;as=Table;g=meta.k8s.io", None),
            ("application/json;v=v1;g=meta.k8s.io", None),
            ("text/html", None),
            ("application/json;as=Nonsense;v=v1;g=meta.k8s.io", None),
        ];
        for (accept, want) in cases {
            assert_eq!(
                negotiate(accept, &forms).ok().map(|n| (n.encoding, n.form)),
                want,
                "{accept}"
            );
        }
    }
}
