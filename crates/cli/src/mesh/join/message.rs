//! What `lateen run` and the supervisor say to each other: one JSON value per datagram.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use lateen_runtime::sock::{Received, receive_message, send_message};
use lateen_sandbox::Exit;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::output;

/// The longest message, in bytes. What the supervisor makes of a [`Join`] has to fit into a datagram to the
/// holder, which is a little larger.
pub(crate) const LONGEST: usize = 128 * 1024;

/// What the client says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Ask {
    /// First, with standard input, output and error beside it: run this.
    Join(Join),
    /// Then, as often as it likes: send this signal.
    Signal(i32),
}

/// A process that wants to join the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Join {
    /// Name of the workload, and of its service.
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) ports: Vec<u16>,
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// The caller's whole environment.
    pub(crate) env: Vec<(String, String)>,
    /// The caller's working directory.
    pub(crate) directory: PathBuf,
}

/// What the supervisor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer {
    /// The process runs.
    Started {
        /// Its number on the machine.
        pid: i32,
    },
    /// It ended; nothing follows.
    Exited(Exit),
    /// It cannot join, or cannot stay; nothing follows.
    Problem {
        /// What, with its causes.
        problem: String,
        /// What to do about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

impl Answer {
    /// Says why it cannot join or stay.
    pub(crate) fn problem(error: &anyhow::Error) -> Self {
        let hint = output::hints(error).next().map(str::to_owned);
        Self::Problem { problem: output::causes(error), hint }
    }
}

/// One end of a conversation: whole messages over a `SOCK_SEQPACKET` socket.
pub(crate) struct Line(AsyncFd<OwnedFd>);

impl Line {
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self(lateen_runtime::sock::watch(socket)?))
    }

    /// Sends a message whole, with descriptors.
    ///
    /// # Errors
    /// `InvalidInput` when it is too long, else what the kernel said.
    pub(crate) async fn send(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(message).map_err(io::Error::other)?;
        if bytes.len() > LONGEST {
            let why =
                format!("{} bytes of arguments and environment, at most {LONGEST} are taken", bytes.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let send = |socket: &OwnedFd| send_message(socket, &bytes, descriptors);
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// The next message and what came with it; none when the other end is gone.
    ///
    /// # Errors
    /// `InvalidData` for what is not understood, else what the kernel said.
    pub(crate) async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut buffer = vec![0; LONGEST];
        let receive = |socket: &OwnedFd| receive_message(socket, &mut buffer);
        let Received { length, descriptors } = match self.0.async_io(Interest::READABLE, receive).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            other => other?,
        };
        if length == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(&buffer[..length])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some((message, descriptors)))
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn peer(&self) -> io::Result<rustix::process::Uid> {
        Ok(rustix::net::sockopt::socket_peercred(self.0.get_ref().as_fd())?.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_runtime::sock::seqpacket_pair;
    use proptest::prelude::*;

    fn join(env: usize) -> Ask {
        Ask::Join(Join {
            name: "cart".to_owned(),
            namespace: "default".to_owned(),
            service_account: "default".to_owned(),
            labels: BTreeMap::from([("app".to_owned(), "cart".to_owned())]),
            ports: vec![8080],
            command: vec!["./cart".to_owned()],
            env: vec![("X".to_owned(), "x".repeat(env))],
            directory: PathBuf::from("/"),
        })
    }

    #[tokio::test]
    async fn messages_arrive_whole_and_an_end_is_nothing() {
        let (near, far) = seqpacket_pair().unwrap();
        let (near, far) = (Line::new(near).unwrap(), Line::new(far).unwrap());
        near.send(&join(100 * 1024), &[io::stdin().as_fd()]).await.unwrap();
        near.send(&Ask::Signal(2), &[]).await.unwrap();
        let (first, descriptors) = far.receive::<Ask>().await.unwrap().unwrap();
        assert_eq!((first, descriptors.len()), (join(100 * 1024), 1));
        assert_eq!(far.receive::<Ask>().await.unwrap().unwrap().0, Ask::Signal(2));
        let error = near.send(&join(LONGEST), &[]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(far.peer().unwrap(), rustix::process::getuid());
        drop(near);
        assert!(far.receive::<Ask>().await.unwrap().is_none());
    }

    #[test]
    fn exits_have_a_stable_form() {
        let text = |answer| serde_json::to_string(&answer).unwrap();
        assert_eq!(text(Answer::Exited(Exit::Code(3))), r#"{"exited":{"code":3}}"#);
        assert_eq!(text(Answer::Exited(Exit::Signal(9))), r#"{"exited":{"signal":9}}"#);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = serde_json::from_slice::<Ask>(&bytes);
        }

        #[test]
        fn any_text_in_the_right_form_is_read(name in ".*", port: u16, env in "(?s).*") {
            let text = serde_json::json!({"join": {
                "name": name, "namespace": "", "serviceAccount": "", "ports": [port],
                "command": [], "env": [["A", env]], "directory": "/",
            }});
            let ask: Ask = serde_json::from_value(text).unwrap();
            // Names are judged later, and no name is a panic.
            if let Ask::Join(join) = ask {
                let _ = super::super::wish::check(&join);
            }
        }
    }
}
