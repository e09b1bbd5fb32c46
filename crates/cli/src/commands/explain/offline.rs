//! The mesh that a directory would become: its files, and the instances of its processes as if they ran.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use lateen_model::{Catalog, Instance, NodeName, Process, Resource, Str, Tunnel};
use lateen_world::{Change, Settings, Severity, World};

use crate::objects;

/// The range of the addresses that instances are given here: reserved for measurements (RFC 2544), so that
/// nobody takes one for real.
const FIRST: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const LAST: u32 = u32::from_be_bytes([198, 19, 255, 255]);

/// What a directory would become.
pub(super) struct Mesh {
    pub(super) catalog: Catalog,
    /// How many errors the files have.
    pub(super) errors: usize,
}

pub(super) fn read(directory: &Path) -> anyhow::Result<Mesh> {
    let found = objects::read(&[PathBuf::from(directory)])
        .map_err(|(path, error)| anyhow::Error::from(error).context(format!("read {}", path.display())))?;
    let mut world = World::new(Settings::default());
    world.apply(found.files.into_iter().map(|(path, text)| Change::SetFile { path, text }).collect());
    let instances = instances(&world.catalog());
    world.apply(instances.into_iter().map(Change::SetInstance).collect());
    let problems = world.problems();
    let problems = found.problems.iter().chain(&problems);
    let errors = problems.filter(|problem| problem.severity == Severity::Error).count();
    Ok(Mesh { catalog: world.catalog(), errors })
}

/// The instances that would run, each with an address of its own.
fn instances(catalog: &Catalog) -> Vec<Instance> {
    let mut processes: Vec<&Process> = catalog
        .iter()
        .filter_map(|entry| match &entry.resource {
            Resource::Process(process) => Some(process),
            _ => None,
        })
        .collect();
    processes.sort_by_key(|process| &process.key);
    let ordinals = processes.into_iter().flat_map(|process| (0..process.replicas).map(move |n| (process, n)));
    (FIRST + 1..LAST).zip(ordinals).map(|(ip, (process, ordinal))| instance(process, ordinal, ip)).collect()
}

fn instance(process: &Process, ordinal: u32, ip: u32) -> Instance {
    Instance {
        name: Str::from(format!("{}-{ordinal}", process.name)),
        namespace: process.namespace.clone(),
        process: process.name.clone(),
        labels: process.labels.clone(),
        service_account: process.service_account.clone(),
        addresses: vec![IpAddr::V4(Ipv4Addr::from(ip))],
        ports: process.ports.clone(),
        tunnel: Tunnel::Hbone,
        ready: true,
        node: NodeName::default(),
    }
}
