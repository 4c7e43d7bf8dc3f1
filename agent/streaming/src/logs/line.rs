//! One line of a CRI log: `<RFC 3339 nano> <stdout|stderr> <P|F> <text>`, and
//! which of them, in which form, an answer holds. Pure.

use jiff::Timestamp;

#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogOptions {
    pub follow: bool,
    pub timestamps: bool,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
    pub since_seconds: Option<u64>,
    pub since_time: Option<Timestamp>,
    pub stdout: bool,
    pub stderr: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    pub time: &'a [u8],
    pub stderr: bool,
    /// The text goes on in the next line of the same stream.
    pub partial: bool,
    pub text: &'a [u8],
}

/// `None`: not in the format (such lines are skipped, as upstream does).
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tags, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let stderr = match stream {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
    Some(Line {
        time,
        stderr,
        partial,
        text,
    })
}

/// What of a log an answer holds; fed line by line.
#[derive(Debug)]
pub struct Selection {
    timestamps: bool,
    since: Option<Timestamp>,
    bytes_left: Option<u64>,
    stdout: bool,
    stderr: bool,
    /// The line before, of each stream, was partial: no new time stamp.
    open: [bool; 2],
}

impl Selection {
    pub fn new(options: &LogOptions, now: Timestamp) -> Self {
        let ago = options.since_seconds.map(|seconds| {
            let span = jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            now.checked_sub(span).unwrap_or(Timestamp::MIN)
        });
        Self {
            timestamps: options.timestamps,
            since: ago.or(options.since_time),
            bytes_left: options.limit_bytes,
            stdout: options.stdout,
            stderr: options.stderr,
            open: [false, false],
        }
    }

    /// Nothing more may be added.
    pub fn is_full(&self) -> bool {
        self.bytes_left == Some(0)
    }

    /// Adds what the answer holds of this line (without its line end) to `out`.
    pub fn take(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        let Some(line) = parse(raw) else { return };
        let wanted = if line.stderr { self.stderr } else { self.stdout };
        if !wanted || self.is_before(line.time) {
            return;
        }
        let begin = out.len();
        let open = &mut self.open[usize::from(line.stderr)];
        if self.timestamps && !*open {
            out.extend_from_slice(line.time);
            out.push(b' ');
        }
        *open = line.partial;
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
        if let Some(left) = &mut self.bytes_left {
            let added = (out.len() - begin) as u64;
            let kept = added.min(*left);
            out.truncate(begin + usize::try_from(kept).unwrap_or(usize::MAX));
            *left -= kept;
        }
    }

    /// Lines are in order of time, so once one is late enough the rest are.
    fn is_before(&mut self, time: &[u8]) -> bool {
        let Some(since) = self.since else { return false };
        let parsed = std::str::from_utf8(time)
            .ok()
            .and_then(|text| text.parse::<Timestamp>().ok());
        let before = parsed.is_some_and(|time| time < since);
        if !before {
            self.since = None;
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: [&str; 5] = [
        "2026-01-01T00:00:01.000000001Z stdout F one",
        "2026-01-01T00:00:02.000000000Z stderr F oops",
        "not a log line",
        "2026-01-01T00:00:03.500000000Z stdout P two ",
        "2026-01-01T00:00:04.000000000Z stdout F halves",
    ];

    fn read(options: LogOptions) -> String {
        let now = "2026-01-01T00:00:10Z".parse().expect("a time");
        let mut selection = Selection::new(&options, now);
        let mut out = Vec::new();
        for line in LOG {
            selection.take(line.as_bytes(), &mut out);
        }
        String::from_utf8(out).expect("text")
    }

    fn both() -> LogOptions {
        LogOptions {
            stdout: true,
            stderr: true,
            ..LogOptions::default()
        }
    }

    #[test]
    fn partial_lines_are_joined() {
        assert_eq!(read(both()), "one\noops\ntwo halves\n");
    }

    #[test]
    fn one_time_stamp_for_a_joined_line() {
        let text = read(LogOptions {
            timestamps: true,
            stderr: false,
            ..both()
        });
        assert_eq!(
            text,
            "2026-01-01T00:00:01.000000001Z one\n2026-01-01T00:00:03.500000000Z two halves\n"
        );
    }

    #[test]
    fn since_seconds_and_since_time() {
        assert_eq!(
            read(LogOptions {
                since_seconds: Some(7),
                ..both()
            }),
            "two halves\n"
        );
        let since_time = Some("2026-01-01T00:00:02Z".parse().expect("a time"));
        assert_eq!(read(LogOptions { since_time, ..both() }), "oops\ntwo halves\n");
    }

    #[test]
    fn bytes_are_limited_exactly() {
        assert_eq!(
            read(LogOptions {
                limit_bytes: Some(6),
                ..both()
            }),
            "one\noo"
        );
        assert_eq!(
            read(LogOptions {
                limit_bytes: Some(0),
                ..both()
            }),
            ""
        );
    }
}
