//! What a container said last: its message file, or by policy the tail of its log.

use super::observed::{Container, State};

/// A container may leave a message in its file, or (by policy) in its log's tail.
pub fn read(mut container: Container) -> Container {
    /// Kubernetes' limits for the file and for the log's tail.
    const FILE_BYTES_MAX: usize = 4_096;
    const LOG_BYTES_MAX: usize = 2_048;
    if container.state != State::Exited || container.message_file.is_empty() {
        return container;
    }
    let bytes = std::fs::read(&container.message_file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(FILE_BYTES_MAX)]).into_owned();
    if !text.is_empty() {
        container.message = text;
    } else if container.message_policy == "FallbackToLogsOnError" && container.exit_code != 0 {
        let tail = String::from_utf8_lossy(&tail(&container.log_path, 4 * LOG_BYTES_MAX as u64)).into_owned();
        let lines: Vec<&str> = tail.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).collect();
        let lines = &lines[lines.len().saturating_sub(80)..];
        let mut text = lines.join("\n") + "\n";
        while text.len() > LOG_BYTES_MAX {
            text.remove(0);
        }
        container.message = text;
    }
    container
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
