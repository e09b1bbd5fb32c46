//! A journey as JSON: each step an object whose `step` says which it is.

use lateen_engine::{BackendChoice, Candidate, Journey, Leg, Step};
use serde_json::{Value, json};

pub(super) fn journey(journey: &Journey) -> Value {
    let question = &journey.question;
    json!({
        "from": question.from,
        "to": question.to,
        "method": question.method,
        "headers": question.headers,
        "arrives": journey.arrives,
        "legs": journey.legs.iter().map(leg).collect::<Vec<_>>(),
    })
}

fn leg(leg: &Leg) -> Value {
    json!({
        "proxy": leg.proxy,
        "direction": leg.direction,
        "passes": leg.explanation.passes,
        "steps": leg.explanation.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

fn step(step: &Step) -> Value {
    match step {
        Step::Name { name, found } => json!({"step": "name", "name": name, "found": found}),
        Step::Address { address, found } => json!({"step": "address", "address": address, "found": found}),
        Step::Port { service, port, protocol } => {
            json!({"step": "port", "service": service, "port": port, "protocol": protocol})
        }
        Step::Listener { port, host } => json!({"step": "listener", "port": port, "host": host}),
        Step::Undeclared { destination, allowed } => {
            json!({"step": "undeclared", "destination": destination, "allowed": allowed})
        }
        Step::Routes { routes } => json!({"step": "routes", "routes": routes}),
        Step::Skipped { route, rule, why } => {
            json!({"step": "skipped", "route": route, "rule": rule, "why": why})
        }
        Step::Matched { route, rule, because } => {
            json!({"step": "matched", "route": route, "rule": rule, "because": because})
        }
        Step::Backends { choices } => {
            json!({"step": "backends", "choices": choices.iter().map(choice).collect::<Vec<_>>()})
        }
        Step::Treatment { timeout, retry, filters, limits } => {
            json!({"step": "treatment", "timeout": timeout, "retry": retry, "filters": filters, "limits": limits})
        }
        Step::Answer { what, filters } => json!({"step": "answer", "what": what, "filters": filters}),
        Step::Candidates { backend, balance, total, tiers, endpoints } => {
            let endpoints: Vec<_> = endpoints.iter().map(candidate).collect();
            json!({"step": "candidates", "backend": backend, "balance": balance, "total": total, "tiers": tiers, "endpoints": endpoints})
        }
        Step::Endpoint { address, workload, hop } => {
            json!({"step": "endpoint", "address": address, "workload": workload, "hop": hop})
        }
        Step::Mtls { port, mode, by, peer } => {
            json!({"step": "mtls", "port": port, "mode": mode, "by": by, "peer": peer})
        }
        Step::Policy { policy, action, dry_run, matched } => {
            json!({"step": "policy", "policy": policy, "action": action, "dryRun": dry_run, "matchedRule": matched})
        }
        Step::Limit { policy, text, counts } => {
            json!({"step": "limit", "policy": policy, "text": text, "counts": counts})
        }
        Step::Verdict { passes, text } => json!({"step": "verdict", "passes": passes, "text": text}),
    }
}

fn choice(choice: &BackendChoice) -> Value {
    let BackendChoice { target, weight, percent, chosen } = choice;
    json!({"target": target, "weight": weight, "percent": percent, "chosen": chosen})
}

fn candidate(candidate: &Candidate) -> Value {
    let Candidate { address, workload, weight, against } = candidate;
    json!({"address": address, "workload": workload, "weight": weight, "against": against})
}
