//! The documentation of the built-in types, collected by the build script and kept
//! compressed in the program: it is a megabyte that only OpenAPI shows.

use crate::schema;
use std::io::Read;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.deflate"));

/// As the build script writes them.
const BETWEEN_PARTS: char = '\u{1}';
const BETWEEN_RECORDS: char = '\u{2}';

/// A type that has what every kind has.
const ANY_KIND: &str = "io.k8s.api.core.v1.Pod";

/// Unpacked for as long as a document is made.
pub struct Descriptions {
    text: String,
}

/// Descriptions by type and field (empty for the type itself), ordered by both.
pub struct Index<'a>(Vec<(&'a str, &'a str, &'a str)>);

impl Descriptions {
    pub fn unpack() -> Self {
        let mut text = String::new();
        flate2::read::DeflateDecoder::new(PACKED)
            .read_to_string(&mut text)
            .expect("the build script wrote text");
        Self { text }
    }

    pub fn index(&self) -> Index<'_> {
        let records = self.text.split(BETWEEN_RECORDS);
        let parts = records.filter_map(|record| {
            let mut parts = record.splitn(3, BETWEEN_PARTS);
            Some((parts.next()?, parts.next()?, parts.next()?))
        });
        Index(parts.collect())
    }
}

impl<'a> Index<'a> {
    /// Of a type, or of one of its fields. What all kinds and all lists have is described
    /// for each of them alike.
    pub fn of(&self, ty: &str, field: Option<&str>) -> Option<&'a str> {
        let wanted = field.unwrap_or("");
        let found = |ty: &str| {
            let at = self.0.binary_search_by(|(t, f, _)| (*t, *f).cmp(&(ty, wanted))).ok()?;
            Some(self.0[at].2)
        };
        found(ty).or_else(|| match wanted {
            "apiVersion" | "kind" => found(ANY_KIND),
            "metadata" => schema::lookup(ty)
                .filter(|ty| ty.is_kind && !ty.short().ends_with("List"))
                .and_then(|_| found(ANY_KIND)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_everything_is_described() {
        let descriptions = Descriptions::unpack();
        let index = descriptions.index();
        let (mut described, mut all) = (0, 0);
        for ty in schema::all().iter().filter(|ty| !ty.short().ends_with("List")) {
            for field in ty.fields() {
                all += 1;
                described += usize::from(index.of(&ty.name, Some(&field.name)).is_some());
            }
        }
        assert!(described * 100 > all * 94, "{described} of {all}");
        let image = index
            .of("io.k8s.api.core.v1.Container", Some("image"))
            .expect("described");
        assert!(image.starts_with("Container image name.") && image.contains("containers/images"));
        assert!(
            index
                .of("io.k8s.api.core.v1.Container", None)
                .is_some_and(|text| !text.contains('"'))
        );
        assert!(PACKED.len() < 350 << 10, "{} bytes in every program", PACKED.len());
    }
}
