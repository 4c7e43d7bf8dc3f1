//! Named formats: `format.dns1123Label().validate(name)` gives what is wrong with a
//! name, or none.

use super::{Function, no_overload};
use crate::value::{Opaque, Value};
use base64::Engine as _;
use skiff_api::{names, time};

/// A format by name.
pub struct NamedFormat {
    pub name: &'static str,
    /// How long a regular expression its check is priced as.
    pub regex_chars: u64,
    faults: fn(&str) -> Vec<String>,
}

impl std::fmt::Debug for NamedFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

pub static FORMATS: &[NamedFormat] = &[
    NamedFormat {
        name: "dns1123Label",
        regex_chars: 30,
        faults: names::dns1123_label,
    },
    NamedFormat {
        name: "dns1123Subdomain",
        regex_chars: 60,
        faults: names::dns1123_subdomain,
    },
    NamedFormat {
        name: "dns1035Label",
        regex_chars: 30,
        faults: names::dns1035_label,
    },
    NamedFormat {
        name: "qualifiedName",
        regex_chars: 60,
        faults: names::qualified_name,
    },
    NamedFormat {
        name: "dns1123LabelPrefix",
        regex_chars: 30,
        faults: |text| names::dns1123_label(&masked(text)),
    },
    NamedFormat {
        name: "dns1123SubdomainPrefix",
        regex_chars: 60,
        faults: |text| names::dns1123_subdomain(&masked(text)),
    },
    NamedFormat {
        name: "dns1035LabelPrefix",
        regex_chars: 30,
        faults: |text| names::dns1035_label(&masked(text)),
    },
    NamedFormat {
        name: "labelValue",
        regex_chars: 40,
        faults: names::label_value,
    },
    NamedFormat {
        name: "uri",
        regex_chars: 1000,
        faults: |text| match super::url::Url::parse(text) {
            Ok(_) => Vec::new(),
            Err(error) => vec![error],
        },
    },
    NamedFormat {
        name: "uuid",
        regex_chars: 75,
        faults: |text| unless(is_uuid(text), "does not match the UUID format"),
    },
    NamedFormat {
        name: "byte",
        regex_chars: 80,
        faults: |text| {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            unless(decoded.is_ok(), "invalid base64")
        },
    },
    NamedFormat {
        name: "date",
        regex_chars: 70,
        faults: |text| {
            let read = time::parse(&format!("{text}T00:00:00Z"));
            unless(text.len() == 10 && read.is_some(), "invalid date")
        },
    },
    NamedFormat {
        name: "datetime",
        regex_chars: 70,
        faults: |text| unless(time::parse(text).is_some(), "invalid datetime"),
    },
];

fn unless(fits: bool, fault: &str) -> Vec<String> {
    if fits { Vec::new() } else { vec![fault.to_string()] }
}

/// A prefix may end with a dash: a generated rest follows.
fn masked(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(rest) if text.len() > 1 => format!("{rest}a"),
        _ => text.to_string(),
    }
}

/// 32 hexadecimal digits, with dashes after the 8th, 12th, 16th and 20th or none there.
fn is_uuid(text: &str) -> bool {
    let mut rest = text;
    for (at, count) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        let Some((group, after)) = rest.split_at_checked(count) else {
            return false;
        };
        if !group.bytes().all(|b| b.is_ascii_hexdigit()) {
            return false;
        }
        rest = if at < 4 {
            after.strip_prefix('-').unwrap_or(after)
        } else {
            after
        };
    }
    rest.is_empty()
}

fn find(name: &str) -> Option<&'static NamedFormat> {
    FORMATS.iter().find(|format| format.name == name)
}

pub fn function(name: &str) -> Option<Function> {
    macro_rules! constant {
        ($($at:literal)*) => {
            match FORMATS.iter().position(|format| name.strip_prefix("format.") == Some(format.name)) {
                $(Some($at) => return Some(|_, _| Ok(Value::Opaque(Opaque::Format(&FORMATS[$at])))),)*
                _ => {}
            }
        };
    }
    constant!(0 1 2 3 4 5 6 7 8 9 10 11 12);
    Some(match name {
        "format.named" => |_, args| match args {
            [Value::String(text)] => Ok(find(text.as_str())
                .map_or_else(Value::none, |format| Value::some(Value::Opaque(Opaque::Format(format))))),
            _ => no_overload(),
        },
        "validate" => |_, args| match args {
            [Value::Opaque(Opaque::Format(format)), Value::String(text)] => {
                let faults = (format.faults)(text.as_str());
                if faults.is_empty() {
                    return Ok(Value::none());
                }
                Ok(Value::some(Value::list(
                    faults.into_iter().map(Value::string).collect(),
                )))
            }
            _ => no_overload(),
        },
        _ => return None,
    })
}
