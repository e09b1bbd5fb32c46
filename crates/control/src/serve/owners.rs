//! A unix socket that answers its owner (and root) only.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use lateen_runtime::{clock, sock};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bound socket file; dropping it removes the file, if it is still ours.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

/// Binds a unix socket with mode 0600. What an earlier run left there is replaced; what answers is not.
///
/// # Errors
/// When somebody listens there, the path is too long, or the directory is missing.
pub(crate) fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(io::Error::other("something that is no socket is there"));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there already"));
        }
        std::fs::remove_file(path)?;
    }
    // Bound under another name and moved once its rights are set, so that nobody can come in between; a listener
    // that is found at its path listens.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".n");
    let beside = path.with_file_name(name);
    let _ = std::fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&beside, path)?;
    let inode = std::fs::symlink_metadata(path)?.ino();
    Ok((listener, SocketFile { path: path.to_path_buf(), inode }))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        use std::os::unix::fs::MetadataExt;
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode);
        if ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Accepts connections of one user and of root, so many at a time.
#[derive(Debug)]
pub(crate) struct Owners {
    listener: UnixListener,
    uid: u32,
    places: Arc<Semaphore>,
}

impl Owners {
    pub(crate) fn new(listener: UnixListener, places: usize) -> Self {
        Self { listener, uid: sock::own_uid(), places: Arc::new(Semaphore::new(places)) }
    }
}

impl axum::serve::Listener for Owners {
    type Io = Guest;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let place =
                Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
            let (stream, address) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: trying again at once would only spin.
                    tracing::warn!(%error, "api cannot accept");
                    clock::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            match sock::peer_credentials(&stream) {
                Ok(peer) if peer.uid == self.uid || peer.uid == 0 => {
                    return (Guest { stream, _place: place }, address);
                }
                Ok(peer) => tracing::warn!(uid = peer.uid, "api refuses another user"),
                Err(error) => tracing::debug!(%error, "api connection is gone"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// An accepted connection, with its place.
#[derive(Debug)]
pub(crate) struct Guest {
    stream: UnixStream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_private_replaced_after_a_kill_and_removed_at_the_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("api.sock");
        let (listener, file) = bind(&path).expect("bind");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).await.expect("listens");
        assert_eq!(bind(&path).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
        // A kill leaves the file without a listener.
        std::mem::forget(file);
        drop(listener);
        let (_listener, file) = bind(&path).expect("bind again");
        drop(file);
        assert!(!path.exists());
        std::fs::write(&path, "x").expect("write");
        assert!(bind(&path).is_err(), "no file is removed");
    }
}
