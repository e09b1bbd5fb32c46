//! Access logs of the pods, one file each in the state directory, kept small.

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

/// A log that grows past this is renamed to `….1`, in place of the one before.
const LARGEST: u64 = 16 << 20;

/// The access log of a pod.
pub(crate) fn path(state: &Path, pod: &str) -> PathBuf {
    state.join("logs").join(format!("{pod}.access.log"))
}

/// Writes what comes through the pipe to the file, until the last writer has gone.
pub(crate) async fn keep(mut reader: pipe::Receiver, path: PathBuf) {
    let mut chunk = vec![0; 64 * 1024];
    let mut log = Log { path, file: None, length: 0 };
    loop {
        match reader.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            // A disk that is full costs log lines, not the mesh.
            Ok(length) => {
                if let Err(error) = log.write(&chunk[..length]).await {
                    tracing::debug!(%error, path = %log.path.display(), "an access log was not written");
                }
            }
        }
    }
}

struct Log {
    path: PathBuf,
    file: Option<File>,
    length: u64,
}

impl Log {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length > LARGEST {
            self.file = None;
            fs::rename(&self.path, self.path.with_extension("log.1")).await?;
        }
        if self.file.is_none() {
            let file = File::options().create(true).append(true).open(&self.path).await?;
            self.length = file.metadata().await?.len();
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            file.write_all(bytes).await?;
            file.flush().await?;
            self.length += bytes.len() as u64;
        }
        Ok(())
    }
}
