//! `registries.yaml`: which mirrors stand in for a registry, how they are reached and
//! who may read from them; and what containerd is told of it. Pure.
//!
//! ```yaml
//! mirrors:
//!   docker.io:                       # or "*" for every registry
//!     endpoint: ["https://mirror.example:5000"]
//!     rewrite: {"^library/(.*)": "copies/$1"}
//! configs:
//!   "mirror.example:5000":
//!     auth: {username: me, password: secret}     # or auth, or identity_token
//!     tls: {ca_file: /x/ca.crt, cert_file: /x/c.crt, key_file: /x/c.key, insecure_skip_verify: false}
//! ```

use super::credentials::Login;
use super::reference::{DEFAULT_REGISTRY, Reference};
use regex::Regex;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

#[derive(Debug, Clone, Default)]
pub struct Registries {
    mirrors: BTreeMap<String, Mirror>,
    configs: BTreeMap<String, Settings>,
}

#[derive(Debug, Clone, Default)]
struct Mirror {
    endpoints: Vec<Endpoint>,
    rewrites: Vec<(Regex, String)>,
}

/// A place that images are pulled from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Without a slash at its end.
    pub url: String,
    pub host: String,
}

#[derive(Debug, Clone, Default)]
struct Settings {
    login: Option<Login>,
    tls: Option<Tls>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    #[serde(default)]
    ca_file: String,
    #[serde(default)]
    cert_file: String,
    #[serde(default)]
    key_file: String,
    #[serde(default)]
    insecure_skip_verify: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    mirrors: Option<BTreeMap<String, Option<FileMirror>>>,
    #[serde(default)]
    configs: Option<BTreeMap<String, Option<FileConfig>>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FileMirror {
    #[serde(default)]
    endpoint: Option<Vec<String>>,
    #[serde(default)]
    rewrite: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FileConfig {
    #[serde(default)]
    auth: Option<FileAuth>,
    #[serde(default)]
    tls: Option<Tls>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identity_token: String,
}

/// Every registry that has no mirror of its own.
const ANY: &str = "*";

impl Registries {
    /// The error says which entry is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let file: File = serde_saphyr::from_str(text).map_err(|e| without_text(&e.to_string()))?;
        let mut all = Self::default();
        for (name, mirror) in file.mirrors.into_iter().flatten() {
            let mirror = mirror.unwrap_or_default();
            let parsed = parse_mirror(mirror).map_err(|e| format!("mirrors.{name:?}: {e}"))?;
            all.mirrors.insert(name, parsed);
        }
        for (name, config) in file.configs.into_iter().flatten() {
            let parsed = parse_config(config.unwrap_or_default()).map_err(|e| format!("configs.{name:?}: {e}"))?;
            all.configs.insert(name, parsed);
        }
        Ok(all)
    }

    fn mirror(&self, registry: &str) -> Option<&Mirror> {
        self.mirrors.get(registry).or_else(|| self.mirrors.get(ANY))
    }

    /// The mirrors that containerd asks before the registry itself.
    pub fn endpoints(&self, image: &Reference) -> &[Endpoint] {
        self.mirror(&image.registry).map_or(&[], |m| &m.endpoints)
    }

    /// Where the image lies under another name, and which; in the order to be tried.
    pub fn rewritten(&self, image: &Reference) -> Vec<(Endpoint, String)> {
        let Some(mirror) = self.mirror(&image.registry) else {
            return Vec::new();
        };
        let renamed = mirror.rewrites.iter().find_map(|(pattern, replacement)| {
            pattern.is_match(&image.repository).then(|| {
                pattern
                    .replace_all(&image.repository, replacement.as_str())
                    .into_owned()
            })
        });
        let renamed = renamed.filter(|name| *name != image.repository);
        let all = mirror.endpoints.iter();
        renamed
            .map(|name| all.map(|e| (e.clone(), name.clone())).collect())
            .unwrap_or_default()
    }

    fn settings(&self, host: &str) -> Option<&Settings> {
        let default = (host == "registry-1.docker.io").then(|| self.configs.get(DEFAULT_REGISTRY));
        let own = self.configs.get(host).or(default.flatten());
        own.or_else(|| self.configs.get(ANY))
    }

    /// The node's own login to a host.
    pub fn login(&self, host: &str) -> Option<&Login> {
        self.settings(host)?.login.as_ref()
    }

    /// The files that are named, so that it can be seen whether they are there.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let tls = self.configs.values().filter_map(|c| c.tls.as_ref());
        tls.flat_map(|t| [&t.ca_file, &t.cert_file, &t.key_file])
            .filter(|name| !name.is_empty())
            .map(PathBuf::from)
            .collect()
    }

    /// containerd's `certs.d`: the text of each registry's `hosts.toml`.
    pub fn hosts_files(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        for name in self.configs.keys().filter(|name| *name != ANY) {
            files.insert(name.clone(), self.hosts_file(&server_of(name), &[]));
        }
        for (name, mirror) in &self.mirrors {
            let (directory, server) = match name.as_str() {
                ANY => ("_default", String::new()),
                name => (name, server_of(name)),
            };
            files.insert(directory.to_owned(), self.hosts_file(&server, &mirror.endpoints));
            for endpoint in mirror.endpoints.iter().filter(|_| !mirror.rewrites.is_empty()) {
                files.insert(alias(endpoint), self.hosts_file(&endpoint.url, &[]));
            }
        }
        files
    }

    fn hosts_file(&self, server: &str, endpoints: &[Endpoint]) -> String {
        let mut text = String::new();
        if !server.is_empty() {
            text.push_str(&format!("server = {}\n", toml(server)));
            text.push_str(&self.connection(host_of(server), server));
        }
        // containerd 1.6 refuses a file without this table.
        text.push_str("\n[host]\n");
        for endpoint in endpoints {
            text.push_str(&format!("\n[host.{}]\n", toml(&endpoint.url)));
            text.push_str("capabilities = [\"pull\", \"resolve\"]\n");
            text.push_str(&self.connection(&endpoint.host, &endpoint.url));
        }
        text
    }

    fn connection(&self, host: &str, url: &str) -> String {
        let mut text = String::new();
        // A path that is given is the API's root, as it is for others who read this file.
        let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        if path.is_some_and(|(_, path)| !path.is_empty() && path != "v2" && !path.ends_with("/v2")) {
            text.push_str("override_path = true\n");
        }
        let Some(tls) = self.settings(host).and_then(|s| s.tls.as_ref()) else {
            return text;
        };
        if !tls.ca_file.is_empty() {
            text.push_str(&format!("ca = {}\n", toml(&tls.ca_file)));
        }
        if !tls.cert_file.is_empty() {
            text.push_str(&format!(
                "client = [[{}, {}]]\n",
                toml(&tls.cert_file),
                toml(&tls.key_file)
            ));
        }
        if tls.insecure_skip_verify {
            text.push_str("skip_verify = true\n");
        }
        text
    }
}

/// A registry on this machine is asked without encryption: what containerd does by
/// itself unless it is given a directory of hosts.
pub fn local_hosts_file(registry: &str) -> String {
    format!("server = {}\n\n[host]\n", toml(&format!("http://{registry}")))
}

/// The name under which an endpoint is a registry of its own: a rewritten image is
/// pulled from there and renamed.
pub fn alias(endpoint: &Endpoint) -> String {
    // FNV-1a: two endpoints only have to differ.
    let hash = endpoint.url.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("m{hash:016x}.mirror.invalid")
}

fn server_of(registry: &str) -> String {
    match registry {
        DEFAULT_REGISTRY => "https://registry-1.docker.io".to_owned(),
        host => format!("https://{host}"),
    }
}

fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

/// JSON's strings are also TOML's.
fn toml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn parse_mirror(mirror: FileMirror) -> Result<Mirror, String> {
    let mut parsed = Mirror::default();
    for url in mirror.endpoint.into_iter().flatten() {
        parsed.endpoints.push(parse_endpoint(&url)?);
    }
    for (pattern, replacement) in mirror.rewrite.into_iter().flatten() {
        let regex = Regex::new(&pattern).map_err(|_| format!("rewrite {pattern:?} is not a regular expression"))?;
        parsed.rewrites.push((regex, replacement));
    }
    Ok(parsed)
}

fn parse_endpoint(url: &str) -> Result<Endpoint, String> {
    let bad = |what: &str| format!("endpoint {url:?} {what}");
    let (scheme, rest) = url
        .split_once("://")
        .ok_or_else(|| bad("must begin with http:// or https://"))?;
    if !matches!(scheme, "http" | "https") {
        return Err(bad("must begin with http:// or https://"));
    }
    let host = rest.split('/').next().unwrap_or_default();
    let authority: Result<http::uri::Authority, _> = host.parse();
    if host.is_empty() || host.contains('@') || authority.is_err() || rest.contains(['?', '#', ' ']) {
        return Err(bad("must be a host, a port and a path"));
    }
    Ok(Endpoint {
        url: url.trim_end_matches('/').to_owned(),
        host: host.to_owned(),
    })
}

fn parse_config(config: FileConfig) -> Result<Settings, String> {
    let login = match config.auth {
        None => None,
        Some(auth) if !auth.auth.is_empty() => {
            Some(Login::from_auth(&auth.auth).ok_or("auth.auth is not the base64 of NAME:PASSWORD")?)
        }
        Some(auth) => Some(Login {
            username: auth.username,
            password: auth.password,
            identity_token: auth.identity_token,
        }),
    };
    if let Some(tls) = &config.tls
        && tls.cert_file.is_empty() != tls.key_file.is_empty()
    {
        return Err("tls.cert_file and tls.key_file go together".into());
    }
    Ok(Settings { login, tls: config.tls })
}

/// The parser shows the lines around a mistake, which may hold a password.
fn without_text(error: &str) -> String {
    error.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
mirrors:
  docker.io:
    endpoint: ["https://m.example:5000", "http://n.example/cache/"]
    rewrite: {"^library/(.*)": "copies/$1"}
  "r.io":
  "*":
    endpoint: ["https://any.example/v2"]
configs:
  "m.example:5000":
    auth: {username: me, password: secret}
    tls: {ca_file: /ca, cert_file: /c, key_file: /k}
  n.example:
    auth: {auth: "eW91OnB3"}
    tls: {insecure_skip_verify: true}
  docker.io:
    auth: {identity_token: t}
"#;

    #[test]
    fn containerd_is_told() {
        let all = Registries::parse(FILE).expect("valid");
        let files = all.hosts_files();
        let wanted = "server = \"https://registry-1.docker.io\"\n\n[host]\n\n\
            [host.\"https://m.example:5000\"]\ncapabilities = [\"pull\", \"resolve\"]\nca = \"/ca\"\nclient = [[\"/c\", \"/k\"]]\n\n\
            [host.\"http://n.example/cache\"]\ncapabilities = [\"pull\", \"resolve\"]\noverride_path = true\nskip_verify = true\n";
        assert_eq!(files["docker.io"], wanted);
        assert_eq!(files["r.io"], "server = \"https://r.io\"\n\n[host]\n");
        assert_eq!(
            files["m.example:5000"],
            "server = \"https://m.example:5000\"\nca = \"/ca\"\nclient = [[\"/c\", \"/k\"]]\n\n[host]\n"
        );
        assert_eq!(
            files["_default"],
            "\n[host]\n\n[host.\"https://any.example/v2\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
        );
        assert_eq!(files.keys().filter(|k| k.ends_with(".mirror.invalid")).count(), 2);
        assert_eq!(all.files().len(), 3);
    }

    #[test]
    fn logins_and_names_of_mirrors() {
        let all = Registries::parse(FILE).expect("valid");
        let image = |text: &str| Reference::parse(text).expect("valid");
        let hosts = |text: &str| -> Vec<String> {
            let image = image(text);
            all.endpoints(&image).iter().map(|e| e.host.clone()).collect()
        };
        assert_eq!(hosts("web"), ["m.example:5000", "n.example"]);
        assert_eq!(hosts("r.io/web"), Vec::<String>::new());
        assert_eq!(hosts("q.io/web"), ["any.example"]);
        let names = |text: &str| -> Vec<String> {
            let found = all.rewritten(&image(text));
            found
                .into_iter()
                .map(|(e, name)| format!("{} {name}", e.host))
                .collect()
        };
        assert_eq!(names("web"), ["m.example:5000 copies/web", "n.example copies/web"]);
        assert_eq!(names("me/web"), Vec::<String>::new());
        let user = |host: &str| all.login(host).map(|l| format!("{}{}", l.username, l.identity_token));
        assert_eq!(user("m.example:5000").as_deref(), Some("me"));
        assert_eq!(user("n.example").as_deref(), Some("you"));
        assert_eq!(user("registry-1.docker.io").as_deref(), Some("t"));
        assert_eq!(user("r.io"), None);
    }

    #[test]
    fn mistakes_are_named_and_passwords_are_not() {
        for (text, wanted) in [
            (
                "mirrors: {r.io: {endpoint: [m.example]}}",
                "endpoint \"m.example\" must begin with",
            ),
            ("mirrors: {r.io: {endpoint: [\"ftp://m\"]}}", "must begin with"),
            ("mirrors: {r.io: {endpoint: [\"https://\"]}}", "must be a host"),
            ("mirrors: {r.io: {endpoint: [\"https://a:b@m\"]}}", "must be a host"),
            ("mirrors: {r.io: {rewrite: {\"(\": x}}}", "not a regular expression"),
            ("mirrors: {r.io: {endpoints: []}}", "endpoints"),
            (
                "configs: {r.io: {tls: {cert_file: /c}}}",
                "configs.\"r.io\": tls.cert_file and tls.key_file",
            ),
            ("configs: {r.io: {auth: {auth: \"###\"}}}", "auth.auth is not"),
            ("mirror: {}", "mirror"),
            ("- a", ""),
            ("\"", ""),
        ] {
            let error = Registries::parse(text).expect_err(text);
            assert!(error.contains(wanted), "{text}: {error}");
        }
        let text = "configs:\n  r.io:\n    auth:\n      username: me\n      password: sesame\n      what: 1\n";
        let error = Registries::parse(text).expect_err("an unknown field");
        assert!(!error.contains("sesame"), "{error}");
        for empty in ["", "\n", "mirrors:\n", "mirrors: {}\nconfigs:\n"] {
            assert!(Registries::parse(empty).expect(empty).hosts_files().is_empty());
        }
    }
}
