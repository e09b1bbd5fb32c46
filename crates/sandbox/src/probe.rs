//! What this machine allows, found out by doing it: a throw-away pod with a link, rules, a process, and a
//! connection that is redirected and still knows where it wanted to go.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    time::Duration,
};

use ipnet::IpNet;
use lateen_capture::{During, Rules};
use nix::sys::socket::{getsockopt, sockopt};
use rustix::net::{bind, listen};
use tokio::{
    net::{TcpListener, TcpSocket},
    time::timeout,
};

use crate::{
    Descriptors, Environment, Error, Exit, Kind, Pod, PodSpec, ProcessSpec, Sandbox, SocketKind, holder,
};

/// What was tried in one environment.
#[derive(Debug)]
pub struct Attempt {
    /// Where.
    pub environment: Environment,
    /// The call that failed and its errno; `None` when the pod worked.
    pub failure: Option<Error>,
}

impl std::fmt::Display for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.failure {
            None => write!(f, "{}: works", self.environment.name()),
            Some(error) => {
                write!(f, "{}: {error}", self.environment.name())?;
                let mut cause = std::error::Error::source(error);
                while let Some(next) = cause {
                    write!(f, ": {next}")?;
                    cause = next.source();
                }
                Ok(())
            }
        }
    }
}

/// The outcome: the best environment that works, and what was tried before it.
#[derive(Debug)]
pub struct Probe {
    /// Where pods can be made.
    pub environment: Environment,
    /// In the order tried; the last one is the chosen one.
    pub attempts: Vec<Attempt>,
}

/// Tries each environment until a pod works. Plain mode needs nothing that could fail, and is not tried.
pub async fn probe() -> Probe {
    let mut attempts = Vec::new();
    for environment in [Environment::Root, Environment::UserNamespace] {
        let failure = try_environment(environment).await.err();
        let works = failure.is_none();
        attempts.push(Attempt { environment, failure });
        if works {
            return Probe { environment, attempts };
        }
    }
    attempts.push(Attempt { environment: Environment::Plain, failure: None });
    Probe { environment: Environment::Plain, attempts }
}

/// Builds a throw-away pod and uses it.
pub async fn try_environment(environment: Environment) -> Result<(), Error> {
    // TEST-NET-1 (RFC 5737): inside namespaces that nothing else sees.
    let gateway = IpNet::new(Ipv4Addr::new(192, 0, 2, 1).into(), 24).expect("24 is a length of IPv4");
    let address = IpNet::new(Ipv4Addr::new(192, 0, 2, 2).into(), 24).expect("24 is a length of IPv4");
    let (sandbox, _news) = Sandbox::start(environment, vec![gateway]).await?;
    let rules = Rules::default();
    let spec = PodSpec {
        name: "probe".into(),
        hostname: "probe".into(),
        addresses: vec![address],
        rules: Some(rules.clone()),
        resolver: None,
        hidden: Vec::new(),
    };
    let pod = sandbox.make_pod(spec).await?;
    let tried = try_pod(&pod, &rules).await;
    sandbox.shut_down().await?;
    tried
}

async fn try_pod(pod: &Pod, rules: &Rules) -> Result<(), Error> {
    let argv = vec![String::from("/proc/self/exe"), holder::NOTHING.into()];
    let spec = ProcessSpec { argv, env: vec![], cwd: None, kind: Kind::Proxy };
    let exit = pod.spawn(spec, Descriptors::new()).await?.wait().await;
    if exit != Exit::Code(0) {
        return Err(lateen_capture::Error::new(format!("run a process in a pod ({exit})"), libc::EIO).into());
    }
    // TEST-NET-2: the connection would lead nowhere if it were not redirected.
    let wanted = SocketAddr::from(([198, 51, 100, 1], 80));
    let seen = redirected(pod, rules.outbound, wanted).await?;
    match seen == wanted {
        true => Ok(()),
        false => Err(lateen_capture::Error::new("getsockopt(SO_ORIGINAL_DST)", libc::ENODATA).into()),
    }
}

/// Connects to `wanted` inside the pod, accepts it at the outbound port, and asks where it wanted to go.
async fn redirected(pod: &Pod, outbound: u16, wanted: SocketAddr) -> Result<SocketAddr, Error> {
    let listener: OwnedFd = pod.open_socket(SocketKind::Tcp4, true).await?;
    bind(&listener, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, outbound))).during("bind()")?;
    listen(&listener, 1).during("listen()")?;
    let listener = TcpListener::from_std(listener.into()).during("epoll_ctl()")?;
    let caller = pod.open_socket(SocketKind::Tcp4, false).await?;
    let caller = TcpSocket::from_std_stream(caller.into());
    let patience = Duration::from_secs(5);
    let late = |_| lateen_capture::Error::new("connect() through the redirect", libc::ETIMEDOUT);
    let (_caller, (accepted, _)) = timeout(patience, async {
        tokio::try_join!(caller.connect(wanted), listener.accept()).during("connect() through the redirect")
    })
    .await
    .map_err(late)??;
    let original = getsockopt(&accepted, sockopt::OriginalDst).during("getsockopt(SO_ORIGINAL_DST)")?;
    let address = IpAddr::from(original.sin_addr.s_addr.to_ne_bytes());
    Ok(SocketAddr::new(address, u16::from_be(original.sin_port)))
}
