//! A directory of objects, and changes to it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The namespace of everything.
pub(super) const NAMESPACE: &str = "bench";

/// The label that a change sets.
pub(super) const MARK: &str = "mark";

/// Objects in a file that does not change.
const PER_FILE: u32 = 100;

/// Workloads that change, each in a file of its own.
pub(super) const CHANGING: usize = 20;

/// The directory, removed when dropped.
pub(super) struct Mesh {
    root: PathBuf,
    /// The last mark of each changing workload.
    marks: [u64; CHANGING],
}

/// One file replaced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) workload: usize,
    pub(super) mark: u64,
    /// Just before the new file took the old one's place.
    pub(super) at: Instant,
}

impl Mesh {
    /// Writes `services`, and `workloads` spread over them.
    pub(super) fn write(services: u32, workloads: u32) -> anyhow::Result<Self> {
        let root = std::env::temp_dir().join(format!("lateen-bench-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let mut mesh = Mesh { root, marks: [0; CHANGING] };
        fs::create_dir_all(mesh.objects())?;
        mesh.write_all("services", services, service)?;
        let still = workloads.saturating_sub(CHANGING as u32);
        mesh.write_all("workloads", still, |number| {
            workload(&format!("still-{number}"), number, services, 0)
        })?;
        for number in 0..CHANGING {
            mesh.change(number)?;
        }
        Ok(mesh)
    }

    /// The directory of objects.
    pub(super) fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    /// The directory for everything else.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Gives one of the changing workloads a new mark, as an editor saves a file: written aside, then
    /// renamed.
    pub(super) fn change(&mut self, number: usize) -> anyhow::Result<Change> {
        let index = number % CHANGING;
        self.marks[index] += 1;
        let mark = self.marks[index];
        let text = workload(&format!("changing-{index}"), 100_000 + index as u32, 1, mark);
        // Aside is another directory, so that only one event tells of the change.
        let aside = self.root.join("aside.yaml");
        fs::write(&aside, text)?;
        let at = Instant::now();
        fs::rename(&aside, self.objects().join(format!("changing-{index}.yaml")))?;
        Ok(Change { workload: index, mark, at })
    }

    fn write_all(&self, kind: &str, count: u32, object: impl Fn(u32) -> String) -> anyhow::Result<()> {
        for first in (0..count).step_by(PER_FILE as usize) {
            let mut text = String::new();
            for number in first..count.min(first + PER_FILE) {
                write!(text, "---\n{}", object(number))?;
            }
            fs::write(self.objects().join(format!("{kind}-{first:06}.yaml")), text)?;
        }
        Ok(())
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn service(number: u32) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: service-{number}, namespace: {NAMESPACE}}}
spec:
  selector: {{app: app-{number}}}
  ports:
  - {{name: http, port: 80, targetPort: 8080}}
"
    )
}

fn workload(name: &str, number: u32, services: u32, mark: u64) -> String {
    let app = number % services.max(1);
    let [_, b, c, d] = number.to_be_bytes();
    format!(
        "apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  address: 10.{b}.{c}.{d}
  serviceAccount: account-{app}
  labels: {{app: app-{app}, version: v1, {MARK}: \"{mark}\"}}
"
    )
}
