use super::*;
use std::io::Read;

fn site() -> Site {
    Site {
        prefix: "/api/v1/namespaces/d/pods/p/proxy".into(),
        backend: "10.0.0.1:80".into(),
        asked: "api:6443".into(),
    }
}

#[test]
fn links_are_relocated_within_the_backend() {
    const P: &str = "/api/v1/namespaces/d/pods/p/proxy";
    for (link, expected) in [
        ("/x?y=z", format!("{P}/x?y=z")),
        ("/", format!("{P}/")),
        ("/a/b/", format!("{P}/a/b/")),
        ("http://10.0.0.1:80/x", format!("{P}/x")),
        ("//10.0.0.1:80/x", format!("{P}/x")),
        ("https://api:6443/x", format!("https://api:6443{P}/x")),
        (&format!("{P}/x"), format!("{P}/x")),
        (&format!("{P}ed/x"), format!("{P}{P}ed/x")),
        ("x/y", "x/y".into()),
        ("?q", "?q".into()),
        ("#here", "#here".into()),
        ("http://elsewhere/x", "http://elsewhere/x".into()),
        ("//elsewhere/x", "//elsewhere/x".into()),
        ("http://10.0.0.1:80", "http://10.0.0.1:80".into()),
        ("mailto:a@b", "mailto:a@b".into()),
        ("/to?u=http://elsewhere/", format!("{P}/to?u=http://elsewhere/")),
        ("", String::new()),
    ] {
        assert_eq!(site().relocated(link), expected, "{link}");
    }
}

/// `^` stands for the prefix.
const PAGES: [(&str, &str); 12] = [
    (r#"<a href="/rewriteme">test</a>"#, r#"<a href="^/rewriteme">test</a>"#),
    (
        "<A class=x HREF='/a>b' >t</A><img src=/i.png>",
        "<A class=x HREF='^/a>b' >t</A><img src=^/i.png>",
    ),
    (
        "<img alt='/no' longdesc = \"/l\" src\n=\n'/s'/>",
        "<img alt='/no' longdesc = \"^/l\" src\n=\n'^/s'/>",
    ),
    (
        "<!-- <a href='/no'> --><a href='/yes'>",
        "<!-- <a href='/no'> --><a href='^/yes'>",
    ),
    ("<!--><a href='/yes'>", "<!--><a href='^/yes'>"),
    (
        "<script src='/s.js'>if (a<b) '<a href=\"/no\">'</SCRIPT><a href='/yes'>",
        "<script src='^/s.js'>if (a<b) '<a href=\"/no\">'</SCRIPT><a href='^/yes'>",
    ),
    (
        "<!DOCTYPE html><p title='/no'>1 < 2 <3</p>",
        "<!DOCTYPE html><p title='/no'>1 < 2 <3</p>",
    ),
    (
        "<form action=/f><input formaction=/g usemap=#m>",
        "<form action=^/f><input formaction=^/g usemap=#m>",
    ),
    ("<a href=\"/never ends", "<a href=\"/never ends"),
    ("<a href", "<a href"),
    ("<a = href=/x>", "<a = href=/x>"),
    ("text \u{fffd} <", "text \u{fffd} <"),
];

#[test]
fn pages_are_rewritten_whatever_the_pieces() {
    let prefix = site().prefix;
    for (page, expected) in PAGES {
        let expected = expected.replace('^', &prefix);
        for size in 1..=page.len() {
            let mut rewriter = Rewriter::new(site());
            let mut out = Vec::new();
            for chunk in page.as_bytes().chunks(size) {
                out.extend(rewriter.push(chunk));
            }
            out.extend(rewriter.finish());
            assert_eq!(String::from_utf8_lossy(&out), expected, "{page} by {size}");
        }
    }
}

#[test]
fn a_tag_without_end_is_not_kept() {
    let mut rewriter = Rewriter::new(site());
    let long = format!("<a title=\"{}", "x".repeat(TAG_BYTES_MAX));
    let out = rewriter.push(long.as_bytes());
    assert_eq!(out, long.as_bytes());
    assert!(rewriter.held.is_empty());
}

#[test]
fn packed_pages_stay_packed() {
    let pack = |text: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).expect("in memory");
        encoder.finish().expect("in memory")
    };
    let packed = pack(&"<a href='/x'>".repeat(1000));
    let mut page = Page::of(site(), "gzip").expect("known");
    let mut out = Vec::new();
    for chunk in packed.chunks(7) {
        out.extend(page.push(chunk).expect("valid"));
    }
    out.extend(page.finish().expect("complete"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(out.as_slice())
        .read_to_string(&mut text)
        .expect("valid");
    assert_eq!(text, format!("<a href='{}/x'>", site().prefix).repeat(1000));

    let mut broken = Page::of(site(), "gzip").expect("known");
    assert!(broken.push(b"no gzip at all, and long enough to tell").is_err());
    assert!(Page::of(site(), "br").is_none());
}
