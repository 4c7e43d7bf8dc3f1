//! Container logs: the CRI's log files, read as `kubectl logs` asks for them.
//! Format: <https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md>.

mod line;
mod notice;
mod read;

pub use line::{LogOptions, parse};
pub use notice::Notices;
pub use read::{Followed, stream};
