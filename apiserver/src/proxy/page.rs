//! Links of a proxied page, as a browser must ask for them: what a backend calls
//! `/x` lies below the proxy's path for the browser. Pure.
//!
//! ```text
//! chunks -> (gunzip) -> text, comments, scripts: as they are | tags: links relocated -> (gzip)
//! ```

use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder};
use std::io::{self, Write};
use std::mem;

/// A tag that is longer is no tag that anybody means: it is passed on as it is.
const TAG_BYTES_MAX: usize = 64 << 10;
/// So much is unpacked at a time: a kilobyte unpacks to a megabyte at most.
const PACKED_STEP_BYTES: usize = 1 << 10;

/// Where a proxied answer comes from, and where its client believes to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    /// The path that stands for the backend's root, without a slash at its end.
    pub prefix: String,
    /// `host:port` of the backend.
    pub backend: String,
    /// What the client calls this server.
    pub asked: String,
}

impl Site {
    /// What the client is to ask for where the backend says `link`.
    pub fn relocated(&self, link: &str) -> String {
        let scheme = |text: &str| {
            let letters = text.strip_suffix(':').unwrap_or("!");
            text.is_empty() || letters.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        let (origin, path) = match link.find("//") {
            Some(at) if scheme(&link[..at]) => {
                let host = at + 2;
                let end = link[host..].find(['/', '?', '#']).map_or(link.len(), |n| host + n);
                (Some((&link[..end], &link[host..end])), &link[end..])
            }
            _ => (None, link),
        };
        let kept = match origin {
            Some((origin, host)) if host == self.asked => origin,
            Some((_, host)) if host == self.backend => "",
            Some(_) => return link.to_owned(),
            None => "",
        };
        let below = path
            .strip_prefix(&self.prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
        if !path.starts_with('/') {
            return link.to_owned();
        }
        let prefix = if below { "" } else { &self.prefix };
        format!("{kept}{prefix}{path}")
    }
}

/// Attributes that hold a link, by tag; upstream's list.
fn links_of(tag: &str) -> &'static [&'static str] {
    match tag {
        "a" | "area" | "base" | "link" => &["href"],
        "applet" => &["codebase"],
        "audio" | "embed" | "script" | "source" => &["src"],
        "blockquote" | "del" | "ins" | "q" => &["cite"],
        "body" => &["background"],
        "button" => &["formaction"],
        "command" => &["icon"],
        "form" => &["action"],
        "frame" | "iframe" => &["longdesc", "src"],
        "head" => &["profile"],
        "html" => &["manifest"],
        "img" => &["longdesc", "src", "usemap"],
        "input" => &["src", "usemap", "formaction"],
        "object" => &["classid", "codebase", "data", "usemap"],
        "video" => &["poster", "src"],
        _ => &[],
    }
}

/// Elements whose content is text, whatever it looks like.
const TEXTS: [&str; 8] = [
    "script", "style", "textarea", "title", "iframe", "noembed", "noframes", "xmp",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Markup,
    Comment,
    Text(&'static str),
}

/// Relocates the links of a page that comes in pieces.
pub(super) struct Rewriter {
    site: Site,
    inside: Inside,
    /// The beginning of what cannot be judged yet.
    held: Vec<u8>,
}

impl Rewriter {
    pub fn new(site: Site) -> Self {
        Self {
            site,
            inside: Inside::Markup,
            held: Vec::new(),
        }
    }

    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut input = mem::take(&mut self.held);
        input.extend_from_slice(chunk);
        let mut out = Vec::with_capacity(input.len() + 64);
        let mut rest = input.as_slice();
        while !rest.is_empty() {
            let taken = match self.inside {
                Inside::Markup => self.markup(rest, &mut out),
                Inside::Comment => self.until(rest, b"-->", &mut out),
                Inside::Text(tag) => self.until(rest, format!("</{tag}").as_bytes(), &mut out),
            };
            let Some(taken) = taken else { break };
            rest = &rest[taken..];
        }
        self.held = rest.to_vec();
        out
    }

    /// What is left when nothing more comes.
    pub fn finish(&mut self) -> Vec<u8> {
        mem::take(&mut self.held)
    }

    /// Passes text on up to the end that is waited for. `None`: more is needed.
    fn until(&mut self, rest: &[u8], end: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let found = rest.windows(end.len()).position(|w| w.eq_ignore_ascii_case(end));
        let taken = match found {
            Some(at) => at + end.len(),
            None => rest.len().saturating_sub(end.len() - 1),
        };
        out.extend_from_slice(&rest[..taken]);
        if found.is_some() {
            self.inside = Inside::Markup;
        }
        (taken > 0).then_some(taken)
    }

    /// Passes on text and one tag or the beginning of a comment.
    fn markup(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        const COMMENT: &[u8] = b"<!--";
        let Some(at) = rest.iter().position(|b| *b == b'<') else {
            out.extend_from_slice(rest);
            return Some(rest.len());
        };
        if at > 0 {
            out.extend_from_slice(&rest[..at]);
            return Some(at);
        }
        if rest.starts_with(COMMENT) {
            self.inside = Inside::Comment;
            // `<!-->` is a whole comment: its dashes count twice.
            out.extend_from_slice(b"<!");
            return Some(2);
        }
        if COMMENT.starts_with(rest) {
            return None;
        }
        if !rest[1].is_ascii_alphabetic() {
            out.push(b'<');
            return Some(1);
        }
        match end_of_tag(rest) {
            Some(end) => {
                self.tag(&rest[..end], out);
                Some(end)
            }
            None if rest.len() > TAG_BYTES_MAX => {
                out.push(b'<');
                Some(1)
            }
            None => None,
        }
    }

    fn tag(&mut self, tag: &[u8], out: &mut Vec<u8>) {
        let mut parts = Attributes::of(tag);
        let name = parts.name.to_ascii_lowercase();
        let links = links_of(&name);
        let mut copied = 0;
        while let Some((key, value)) = parts.next() {
            let link = std::str::from_utf8(&tag[value.clone()]);
            if let Ok(link) = link
                && links.iter().any(|known| key.eq_ignore_ascii_case(known))
            {
                out.extend_from_slice(&tag[copied..value.start]);
                out.extend_from_slice(self.site.relocated(link).as_bytes());
                copied = value.end;
            }
        }
        out.extend_from_slice(&tag[copied..]);
        if let Some(text) = TEXTS.iter().find(|text| **text == name) {
            self.inside = Inside::Text(text);
        }
    }
}

/// Behind the `>` that ends the tag; one within quotes does not.
fn end_of_tag(text: &[u8]) -> Option<usize> {
    let mut quote = None;
    let mut before = b' ';
    for (at, byte) in text.iter().copied().enumerate() {
        match quote {
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if byte == b'>' => return Some(at + 1),
            // A quote begins a value only right behind the equals sign.
            None if matches!(byte, b'"' | b'\'') && before == b'=' => quote = Some(byte),
            None => {}
        }
        if !byte.is_ascii_whitespace() {
            before = byte;
        }
    }
    None
}

/// Names of a tag's attributes, and where their values are.
struct Attributes<'a> {
    tag: &'a [u8],
    name: &'a str,
    at: usize,
}

impl<'a> Attributes<'a> {
    fn of(tag: &'a [u8]) -> Self {
        let mut all = Self { tag, name: "", at: 1 };
        all.name = all.word(b"/>");
        all
    }

    /// Up to white space or one of `ends`.
    fn word(&mut self, ends: &[u8]) -> &'a str {
        let rest = &self.tag[self.at..];
        let ends = |byte: &u8| byte.is_ascii_whitespace() || ends.contains(byte);
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        self.at += length;
        std::str::from_utf8(&rest[..length]).unwrap_or_default()
    }

    fn skip(&mut self, also: &[u8]) {
        let skipped = |byte: &u8| byte.is_ascii_whitespace() || also.contains(byte);
        let rest = &self.tag[self.at..];
        self.at += rest.iter().position(|byte| !skipped(byte)).unwrap_or(rest.len());
    }

    fn next(&mut self) -> Option<(&'a str, std::ops::Range<usize>)> {
        loop {
            self.skip(b"/");
            if self.tag.get(self.at).is_none_or(|byte| *byte == b'>') {
                return None;
            }
            let from = self.at;
            let key = self.word(b"/>=");
            self.skip(b"");
            if self.tag.get(self.at) != Some(&b'=') {
                continue;
            }
            self.at += 1;
            self.skip(b"");
            let value = match self.tag.get(self.at) {
                Some(quote @ (b'"' | b'\'')) => {
                    let start = self.at + 1;
                    let length = self.tag[start..].iter().position(|byte| byte == quote)?;
                    self.at = start + length + 1;
                    start..start + length
                }
                _ => {
                    let start = self.at;
                    self.word(b">");
                    start..self.at
                }
            };
            debug_assert!(self.at > from, "every attribute is at least its sign");
            return Some((key, value));
        }
    }
}

/// A page on its way, packed as it was.
pub(super) struct Page {
    rewriter: Rewriter,
    packed: Option<(GzDecoder<Vec<u8>>, GzEncoder<Vec<u8>>)>,
}

impl Page {
    /// `None` where the page is packed in a way that is passed on as it is.
    pub fn of(site: Site, encoding: &str) -> Option<Self> {
        let packed = match encoding {
            "" | "identity" => None,
            "gzip" => Some((
                GzDecoder::new(Vec::new()),
                GzEncoder::new(Vec::new(), Compression::fast()),
            )),
            _ => return None,
        };
        let rewriter = Rewriter::new(site);
        Some(Self { rewriter, packed })
    }

    pub fn push(&mut self, chunk: &[u8]) -> io::Result<Vec<u8>> {
        let Some((decoder, encoder)) = &mut self.packed else {
            return Ok(self.rewriter.push(chunk));
        };
        for step in chunk.chunks(PACKED_STEP_BYTES) {
            decoder.write_all(step)?;
            decoder.flush()?;
            let text = mem::take(decoder.get_mut());
            encoder.write_all(&self.rewriter.push(&text))?;
        }
        encoder.flush()?;
        Ok(mem::take(encoder.get_mut()))
    }

    pub fn finish(&mut self) -> io::Result<Vec<u8>> {
        let Some((decoder, encoder)) = &mut self.packed else {
            return Ok(self.rewriter.finish());
        };
        decoder.try_finish()?;
        let text = mem::take(decoder.get_mut());
        encoder.write_all(&self.rewriter.push(&text))?;
        encoder.write_all(&self.rewriter.finish())?;
        encoder.try_finish()?;
        Ok(mem::take(encoder.get_mut()))
    }
}

#[cfg(test)]
#[path = "page_test.rs"]
mod tests;
