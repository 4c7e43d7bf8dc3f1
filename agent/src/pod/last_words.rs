//! What a container said last: its message file, or by policy the tail of its log.

use super::observed::{Container, State};

/// Kubernetes' limits for the file, and for the log's tail.
const FILE_BYTES_MAX: usize = 4_096;
const LOG_BYTES_MAX: usize = 2_048;
const LOG_LINES_MAX: usize = 80;

/// A container may leave a message in its file, or (by policy) in its log's tail. It
/// comes after what the runtime says of the end.
pub fn read(mut container: Container) -> Container {
    if container.state != State::Exited || container.message_file.is_empty() {
        return container;
    }
    let mut bytes = head(&container.message_file, FILE_BYTES_MAX as u64);
    if bytes.is_empty() && container.message_policy == "FallbackToLogsOnError" && container.exit_code != 0 {
        // A line's time and stream are longer than most lines.
        let read = 16 * LOG_BYTES_MAX as u64;
        bytes = last_lines(&tail(&container.log_path, read));
    }
    let text = String::from_utf8_lossy(&bytes);
    if !text.is_empty() {
        if !container.message.is_empty() {
            container.message.push_str(": ");
        }
        container.message.push_str(&text);
    }
    container
}

/// The text of the last lines of a log in CRI's format: `time stream P|F text`, where
/// P is a line that goes on in the next entry.
fn last_lines(log: &[u8]) -> Vec<u8> {
    let entries = log.split(|b| *b == b'\n').filter_map(|entry| {
        let mut parts = entry.splitn(4, |b| *b == b' ').skip(2);
        Some((parts.next()? == b"P", parts.next()?))
    });
    let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
    for (goes_on, text) in entries {
        let line = lines.last_mut().expect("never empty");
        line.extend_from_slice(text);
        if !goes_on {
            line.push(b'\n');
            lines.push(Vec::new());
        }
    }
    lines.retain(|line| !line.is_empty());
    let all = lines[lines.len().saturating_sub(LOG_LINES_MAX)..].concat();
    all[all.len().saturating_sub(LOG_BYTES_MAX)..].to_vec()
}

fn head(path: &str, bytes: u64) -> Vec<u8> {
    use std::io::Read;
    let mut text = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.take(bytes).read_to_end(&mut text);
    }
    text
}

fn tail(path: &str, bytes: u64) -> Vec<u8> {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
        let mut text = Vec::new();
        file.take(bytes).read_to_end(&mut text)?;
        Ok(text)
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_log() {
        let log = b"cut off\n2026 stdout F one\n2026 stderr P tw\n2026 stderr F o\n2026 stdout F \n2026 stdout P end";
        assert_eq!(last_lines(log), b"one\ntwo\n\nend");
        let many: String = (0..100).map(|i| format!("t stdout F {i}\n")).collect();
        let expected: String = (20..100).map(|i| format!("{i}\n")).collect();
        assert_eq!(last_lines(many.as_bytes()), expected.as_bytes());
        let long = format!("t stdout F {}\nt stdout F {}\n", "a".repeat(3_000), "b".repeat(1_000));
        let found = last_lines(long.as_bytes());
        assert_eq!(
            (found.len(), found[0], found[1_046], found[1_047]),
            (2_048, b'a', b'\n', b'b')
        );
    }

    #[test]
    fn the_file_comes_before_the_log() {
        let dir = std::env::temp_dir().join(format!("skiff-last-words-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("writable");
        let path = |name: &str| dir.join(name).display().to_string();
        std::fs::write(path("log"), "t stdout F from the log\n").expect("written");
        for (file, policy, code, of_runtime, expected) in [
            ("told", "File", 1, "", "told"),
            ("told", "FallbackToLogsOnError", 1, "", "told"),
            ("", "FallbackToLogsOnError", 1, "", "from the log\n"),
            ("", "FallbackToLogsOnError", 0, "", ""),
            ("", "File", 1, "", ""),
            ("told", "File", 1, "no such file", "no such file: told"),
            (&"x".repeat(5_000), "File", 0, "", &"x".repeat(4_096)),
        ] {
            std::fs::write(path("file"), file).expect("written");
            let container = Container {
                state: State::Exited,
                message: of_runtime.into(),
                message_file: path("file"),
                message_policy: policy.into(),
                log_path: path("log"),
                exit_code: code,
                ..Container::default()
            };
            assert_eq!(read(container).message, expected, "{policy} {code}");
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
