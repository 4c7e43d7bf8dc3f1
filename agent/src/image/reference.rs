//! Image names, as distribution's grammar has them. Pure.
//!
//! `web` is short for `docker.io/library/web:latest`; a host has a dot, a port, or is
//! `localhost`.

/// A name taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `docker.io` where the name does not say.
    pub registry: String,
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<String>,
}

pub const DEFAULT_REGISTRY: &str = "docker.io";
/// Where the default registry really answers.
const DEFAULT_HOST: &str = "registry-1.docker.io";
const INVALID: &str = "invalid reference format";
const NAME_MAX: usize = 255;

impl Reference {
    /// The error is worded as distribution's own.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            ));
        }
        let (registry, rest) = split_registry(text);
        let (name, digest) = match rest.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (rest, None),
        };
        let (path, tag) = match name.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (name, None),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(format!("{INVALID}: repository name ({path}) must be lowercase"));
        }
        let valid = is_host(&registry)
            && !path.is_empty()
            && path.split('/').all(is_component)
            && tag.is_none_or(is_tag)
            && digest.is_none_or(is_digest);
        if !valid {
            return Err(INVALID.into());
        }
        let official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let repository = if official {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if repository.len() > NAME_MAX {
            return Err(format!("repository name must not be more than {NAME_MAX} characters"));
        }
        Ok(Self {
            registry,
            repository,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// Registry and repository: what credentials are for.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The whole name. A tag beside a digest says nothing, and containerd drops it.
    pub fn full(&self) -> String {
        self.named(&self.name())
    }

    /// The same image under another name.
    pub fn named(&self, name: &str) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("{name}@{digest}"),
            (None, Some(tag)) => format!("{name}:{tag}"),
            (None, None) => format!("{name}:latest"),
        }
    }

    /// The host that answers for the registry.
    pub fn host(&self) -> &str {
        if self.registry == DEFAULT_REGISTRY {
            DEFAULT_HOST
        } else {
            &self.registry
        }
    }

    /// Whether a registry on this machine is meant, which nobody gives a certificate.
    pub fn is_local(&self) -> bool {
        let host = self
            .registry
            .rsplit_once(':')
            .map_or(self.registry.as_str(), |(h, _)| h);
        host == "localhost" || host == "[::1]" || host.starts_with("127.")
    }
}

fn split_registry(text: &str) -> (String, &str) {
    let default = (DEFAULT_REGISTRY.to_owned(), text);
    let Some((first, rest)) = text.split_once('/') else {
        return default;
    };
    let is_registry =
        first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase());
    match first {
        "index.docker.io" => (DEFAULT_REGISTRY.to_owned(), rest),
        _ if is_registry => (first.to_owned(), rest),
        _ => default,
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let address = |inner: &str| inner.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
        && literal.map_or_else(|| host.split('.').all(label), address)
}

/// Lower-case letters and digits, parted by one dot, one or two underscores, or dashes.
fn is_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(|b| word(*b));
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends(bytes.first())
        && ends(bytes.last())
        && separators
            .filter(|s| !s.is_empty())
            .all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let first = text.bytes().next();
    first.is_some_and(word) && text.len() <= 128 && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(word) && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_made_whole() {
        let hex = "0".repeat(64);
        let digest = format!("sha256:{hex}");
        let with_digest = format!("r.io/a@{digest}");
        for (text, name, full, host) in [
            (
                "web",
                "docker.io/library/web",
                "docker.io/library/web:latest",
                DEFAULT_HOST,
            ),
            ("me/web:1", "docker.io/me/web", "docker.io/me/web:1", DEFAULT_HOST),
            (
                "index.docker.io/web",
                "docker.io/library/web",
                "docker.io/library/web:latest",
                DEFAULT_HOST,
            ),
            ("localhost/web", "localhost/web", "localhost/web:latest", "localhost"),
            (
                "r:5000/a/b_c.d--e:V.1-x",
                "r:5000/a/b_c.d--e",
                "r:5000/a/b_c.d--e:V.1-x",
                "r:5000",
            ),
            ("HOST/web:1", "HOST/web", "HOST/web:1", "HOST"),
            (
                "[::1]:5000/web",
                "[::1]:5000/web",
                "[::1]:5000/web:latest",
                "[::1]:5000",
            ),
            (with_digest.as_str(), "r.io/a", with_digest.as_str(), "r.io"),
        ] {
            let found = Reference::parse(text).expect(text);
            assert_eq!(
                (found.name().as_str(), found.full().as_str(), found.host()),
                (name, full, host),
                "{text}"
            );
        }
        let both = Reference::parse(&format!("r.io/a:1@{digest}")).expect("valid");
        assert_eq!(both.full(), with_digest);
    }

    #[test]
    fn what_is_no_name() {
        for (text, wanted) in [
            ("", INVALID),
            (
                "UPPER",
                "invalid reference format: repository name (UPPER) must be lowercase",
            ),
            (
                "a/B:1",
                "invalid reference format: repository name (a/B) must be lowercase",
            ),
            ("a b", INVALID),
            (":x", INVALID),
            ("a:", INVALID),
            ("a:-x", INVALID),
            ("a//b", INVALID),
            ("a..b", INVALID),
            ("-a", INVALID),
            ("a@sha256:12", INVALID),
            ("https://r.io/a", INVALID),
            ("r.io:port/a", INVALID),
            ("a___b", INVALID),
        ] {
            assert_eq!(Reference::parse(text), Err(wanted.to_owned()), "{text}");
        }
        let hex = "a".repeat(64);
        assert!(
            Reference::parse(&hex)
                .expect_err("an id")
                .contains("64-byte hexadecimal")
        );
    }

    #[test]
    fn local_registries() {
        for (text, expected) in [
            ("localhost:5000/a", true),
            ("127.0.0.1:5000/a", true),
            ("[::1]:5000/a", true),
            ("r.io/a", false),
            ("a", false),
        ] {
            assert_eq!(Reference::parse(text).expect(text).is_local(), expected, "{text}");
        }
    }
}
