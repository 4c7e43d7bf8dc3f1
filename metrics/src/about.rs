//! What a component is, and how it was started: `/statusz` and `/flagz` (KEP-4827, KEP-4828), as text for people,
//! and as an object for programs that ask for it by its full name.

use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

/// Where they are.
pub const PATHS: [&str; 2] = ["/flagz", "/statusz"];
/// What a client is told whose `Accept` none of the forms fits.
pub const NOT_ACCEPTABLE: &str = "media type not acceptable, must be: text/plain\n";

const GROUP: &str = "config.k8s.io";
const VERSION: &str = "v1beta1";
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting \
    compatibility guarantees and is for debugging purposes only.";

static BEGUN: LazyLock<Timestamp> = LazyLock::new(Timestamp::now);
static FLAGS: OnceLock<BTreeMap<String, String>> = OnceLock::new();

/// To be called once, when the process begins: with the values of its flags, secret ones left out.
pub fn begin(flags: BTreeMap<String, String>) {
    LazyLock::force(&BEGUN);
    let _ = FLAGS.set(flags);
}

/// A component of this process.
#[derive(Debug, Clone, Copy)]
pub struct Component<'a> {
    pub name: &'a str,
    /// `v1.36.0`.
    pub version: &'a str,
    /// Other pages that say more.
    pub paths: &'a [&'a str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Object,
}

impl Component<'_> {
    /// The page's media type and text. `None`: no form of it fits what the client accepts.
    pub fn page(&self, path: &str, accept: &str) -> Option<(&'static str, String)> {
        static NO_FLAGS: BTreeMap<String, String> = BTreeMap::new();
        match path {
            "/statusz" => self.statusz((*BEGUN, Timestamp::now()), form(accept, "Statusz")?),
            _ => self.flagz(FLAGS.get().unwrap_or(&NO_FLAGS), form(accept, "Flagz")?),
        }
        .into()
    }

    fn statusz(&self, (begun, now): (Timestamp, Timestamp), form: Form) -> (&'static str, String) {
        let up_s = now.duration_since(begun).as_secs().max(0);
        let version = self.version.trim_start_matches('v');
        let emulated: Vec<&str> = version.split('.').take(2).collect();
        let emulated = emulated.join(".");
        if form == Form::Object {
            let started = begun.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            return self.object(
                "Statusz",
                json!({"startTime": started, "uptimeSeconds": up_s, "binaryVersion": version,
                    "emulationVersion": emulated, "paths": self.paths}),
            );
        }
        let mut text = format!(
            "\n{} statusz\n{WARNING}\n\nStarted: {}\nUp: {} hr {:02} min {:02} sec\nBinary version: {version}\n\
             Emulation version: {emulated}\n",
            self.name,
            begun.strftime("%a %b %e %H:%M:%S UTC %Y"),
            up_s / 3_600,
            up_s / 60 % 60,
            up_s % 60,
        );
        if !self.paths.is_empty() {
            text.push_str(&format!("Paths: {}\n", self.paths.join(" ")));
        }
        (TEXT, text)
    }

    fn flagz(&self, flags: &BTreeMap<String, String>, form: Form) -> (&'static str, String) {
        if form == Form::Object {
            return self.object("Flagz", json!({ "flags": flags }));
        }
        let lines: String = flags.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        (TEXT, format!("\n{} flags\n{WARNING}\n\n{lines}", self.name))
    }

    fn object(&self, kind: &str, mut content: Value) -> (&'static str, String) {
        content["kind"] = kind.into();
        content["apiVersion"] = format!("{GROUP}/{VERSION}").into();
        content["metadata"] = json!({"name": self.name});
        ("application/json", format!("{content}\n"))
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

/// The first of what is accepted that there is. Who accepts nothing in particular gets text.
fn form(accept: &str, kind: &str) -> Option<Form> {
    if accept.trim().is_empty() {
        return Some(Form::Text);
    }
    accept.split(',').find_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next()?.to_ascii_lowercase();
        let named: BTreeMap<&str, &str> = parts.filter_map(|part| part.split_once('=')).collect();
        let wants = |name: &str, value: &str| named.get(name).is_some_and(|given| given.eq_ignore_ascii_case(value));
        let bare = named
            .iter()
            .all(|(name, value)| *name == "q" || (*name == "charset" && value.eq_ignore_ascii_case("utf-8")));
        match media.as_str() {
            "text/plain" | "text/*" | "*/*" if bare => Some(Form::Text),
            "application/json" if wants("g", GROUP) && wants("v", VERSION) && wants("as", kind) => Some(Form::Object),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBELET: Component<'_> = Component {
        name: "kubelet",
        version: "v1.36.0",
        paths: &["/configz", "/healthz"],
    };

    #[test]
    fn what_is_accepted_and_what_is_answered() {
        let object = "application/json;v=v1beta1;g=config.k8s.io;as=Statusz";
        for (accept, expected) in [
            ("", Some(Form::Text)),
            ("*/*", Some(Form::Text)),
            ("text/html, text/plain; charset=UTF-8", Some(Form::Text)),
            ("text/plain; charset=latin1", None),
            ("text/html", None),
            (object, Some(Form::Object)),
            ("application/json", None),
            ("application/json;v=v1;g=config.k8s.io;as=Statusz", None),
            ("application/json;v=v1beta1;g=config.k8s.io;as=Flagz", None),
            (
                "application/json, application/json; as=Statusz; g=config.k8s.io; v=v1beta1",
                Some(Form::Object),
            ),
            ("application/json, */*;q=0.1", Some(Form::Text)),
        ] {
            assert_eq!(form(accept, "Statusz"), expected, "{accept}");
        }
    }

    #[test]
    fn statusz_is_worded_as_upstreams() {
        let begun: Timestamp = "2024-10-06T21:03:43.5Z".parse().expect("a time");
        let now: Timestamp = "2024-10-07T23:04:00Z".parse().expect("a time");
        let (kind, text) = KUBELET.statusz((begun, now), Form::Text);
        let expected = format!(
            "\nkubelet statusz\n{WARNING}\n\nStarted: Sun Oct  6 21:03:43 UTC 2024\nUp: 26 hr 00 min 16 sec\n\
             Binary version: 1.36.0\nEmulation version: 1.36\nPaths: /configz /healthz\n"
        );
        assert_eq!((kind, text), (TEXT, expected));
        let (kind, text) = KUBELET.statusz((begun, now), Form::Object);
        let found: Value = serde_json::from_str(&text).expect("JSON");
        let expected = json!({"kind": "Statusz", "apiVersion": "config.k8s.io/v1beta1", "metadata": {"name": "kubelet"},
            "startTime": "2024-10-06T21:03:43Z", "uptimeSeconds": 93_616, "binaryVersion": "1.36.0",
            "emulationVersion": "1.36", "paths": ["/configz", "/healthz"]});
        assert_eq!((kind, found), ("application/json", expected));
    }

    #[test]
    fn flags_are_sorted() {
        let flags = [("b", "2"), ("a", "x=\"y\"")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let flags = BTreeMap::from(flags);
        let (_, text) = KUBELET.flagz(&flags, Form::Text);
        assert_eq!(text, format!("\nkubelet flags\n{WARNING}\n\na=x=\"y\"\nb=2\n"));
        let (_, text) = KUBELET.flagz(&flags, Form::Object);
        let found: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            (&found["flags"]["a"], &found["kind"]),
            (&json!("x=\"y\""), &json!("Flagz"))
        );
    }
}
