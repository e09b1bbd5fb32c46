//! What a control plane is told when it starts: where and who, not what. What holds for the mesh stands in its
//! objects.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::hub::batch::Pace;
use crate::source::files::Limits;

/// Where and who.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory of objects.
    pub directory: PathBuf,
    /// The state directory.
    pub state: PathBuf,
    /// Where the sockets are made: `control.sock` for proxies, `api.sock` for the command line.
    pub run: PathBuf,
    /// An address where proxies are served too.
    pub listen: Option<SocketAddr>,
    /// How the world is made: ranges of virtual addresses, what unenforced security objects do.
    pub world: lateen_world::Settings,
    /// When a burst of changes is over.
    pub pace: Pace,
    /// How files are read.
    pub files: Limits,
    /// Most connections of proxies at a time.
    pub connections: lateen_wire::server::Limits,
}

impl Config {
    /// The usual settings for these places.
    pub fn new(directory: PathBuf, state: PathBuf, run: PathBuf) -> Self {
        Self {
            directory,
            state,
            run,
            listen: None,
            world: lateen_world::Settings::default(),
            pace: Pace::default(),
            files: Limits { file_size: lateen_world::MAX_FILE as u64, ..Limits::default() },
            connections: lateen_wire::server::Limits::default(),
        }
    }

    /// Where proxies are served on this machine.
    pub fn control_socket(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    /// Where the API is served.
    pub fn api_socket(&self) -> PathBuf {
        self.run.join("api.sock")
    }
}
