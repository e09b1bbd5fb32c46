//! Instructions in user space per request, counted by callgrind: the same on a busy machine as on a quiet one,
//! so that CI can hold them to a budget.
//!
//! Each contender runs twice, with few requests and with many; the difference is what requests cost, whatever a
//! process needs to start and to end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use lateen_cli::output::Output;

use crate::backend::Backend;
use crate::child::Measured;
use crate::contender::{Contender, Stage};
use crate::drive::Drive;
use crate::http::load;
use crate::ours::objects::HOST;
use crate::sheet::Sheet;
use crate::{child, http, others};

/// Count instructions per request with callgrind.
#[derive(Debug, Clone, Args)]
pub(crate) struct InstructionsArgs {
    /// Fail where more are needed than the budget allows.
    #[arg(long)]
    check: bool,

    /// Make what was counted the new budget.
    #[arg(long, conflicts_with = "check")]
    renew: bool,

    /// Count these alone; repeatable.
    #[arg(long, value_enum)]
    only: Vec<Contender>,

    /// The budget.
    #[arg(long, value_name = "PATH", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json"))]
    budget: PathBuf,
}

/// Requests of the short and of the long run.
const FEW: u32 = 500;
const MANY: u32 = 4_500;

/// What a budget may be passed by: compilers differ a little from release to release.
const TOLERANCE: f64 = 1.08;

const COUNTED: [Contender; 3] = [Contender::Minimal, Contender::Full, Contender::Pair];

pub(crate) fn run(args: &InstructionsArgs, output: &mut Output) -> anyhow::Result<()> {
    anyhow::ensure!(others::find("valgrind").is_some(), "valgrind is not installed");
    child::pin(http::LOAD_CORE)?;
    let backend = Backend::start()?;
    let scratch = Path::new(env!("CARGO_MANIFEST_DIR")).join("out");
    let mut budget: BTreeMap<String, u64> = match fs::read(&args.budget) {
        Ok(text) => serde_json::from_slice(&text).context("read the budget")?,
        Err(_) => BTreeMap::new(),
    };
    let heads = ["", "instructions per request", "budget", "allowed"];
    let mut sheet = Sheet::new("Instructions in user space per request, HTTP/1.1, keep-alive", heads);
    let mut over = Vec::new();
    for contender in COUNTED.into_iter().filter(|one| args.only.is_empty() || args.only.contains(one)) {
        let key = format!("{contender:?}").to_lowercase();
        let callgrind = scratch.join("callgrind").join(&key);
        fs::create_dir_all(&callgrind)?;
        let stage = Stage {
            http1: backend.http1,
            http2: backend.http2,
            envoy: None,
            scratch: scratch.clone(),
            callgrind: Some(callgrind),
        };
        let (few, many) = (count(contender, &stage, FEW)?, count(contender, &stage, MANY)?);
        let found = many.saturating_sub(few) / u64::from(MANY - FEW);
        let known = budget.insert(key, found);
        let allowed = known.map(|known| (known as f64 * TOLERANCE) as u64);
        let text = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        sheet.row([contender.title().to_owned(), found.to_string(), text(known), text(allowed)]);
        if allowed.is_none_or(|allowed| found > allowed) {
            over.push(contender.title());
        }
    }
    sheet.print(output)?;
    if args.renew {
        let mut text = serde_json::to_string_pretty(&budget)?;
        text.push('\n');
        fs::write(&args.budget, text)?;
    }
    anyhow::ensure!(
        !args.check || over.is_empty(),
        "more instructions than the budget allows: {}; what is worth them is stored with --renew",
        over.join(", ")
    );
    Ok(())
}

/// All instructions of a run with so many requests, those of the start and the end included.
fn count(contender: Contender, stage: &Stage, requests: u32) -> anyhow::Result<u64> {
    let directory = stage.callgrind.as_ref().context("no place for callgrind")?;
    for old in fs::read_dir(directory)? {
        fs::remove_file(old?.path())?;
    }
    let running = contender.start(stage)?;
    let mut drive = Drive::connect(running.http1, 1, load::request(HOST))?;
    drive.run_many(requests).with_context(|| format!("ask {}", contender.title()))?;
    drop(drive);
    running.processes.into_iter().try_for_each(Measured::stop)?;
    let mut total = 0;
    for file in fs::read_dir(directory)? {
        let text = fs::read_to_string(file?.path())?;
        let line =
            text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
        let count = line.and_then(|line| line.trim().parse::<u64>().ok());
        total += count.context("callgrind left no total")?;
    }
    anyhow::ensure!(total > 0, "callgrind counted nothing");
    Ok(total)
}
