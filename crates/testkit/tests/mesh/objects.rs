//! Objects as users write them, in few words.

/// A process without ports.
pub(crate) fn client(name: &str) -> String {
    process(name, "default", 1, "")
}

/// A process `name` of one replica that serves HTTP on port 80, and its service.
pub(crate) fn server(name: &str) -> String {
    servers(name, "default", 1)
}

/// As [`server`], with so many replicas in this namespace.
pub(crate) fn servers(name: &str, namespace: &str, replicas: u32) -> String {
    let service = service(name, namespace, &format!("app: {name}"), "http");
    process(name, namespace, replicas, "ports: [{name: http, port: 80}]") + &service
}

/// A service of `name` with one port of this name.
pub(crate) fn service(name: &str, namespace: &str, selector: &str, port: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{{selector}}}, ports: [{{name: {port}, port: 80}}]}}
"
    )
}

/// A process, labelled with its name, that acts as an account of its own.
pub(crate) fn process(name: &str, namespace: &str, replicas: u32, more: &str) -> String {
    labelled(name, namespace, &format!("app: {name}"), replicas, more)
}

/// A process with these labels.
pub(crate) fn labelled(name: &str, namespace: &str, labels: &str, replicas: u32, more: &str) -> String {
    format!(
        "---
apiVersion: lateen.dev/v1alpha1
kind: Process
metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}
spec:
  serviceAccount: {name}
  command: [serve]
  replicas: {replicas}
  {more}
"
    )
}

/// Everybody takes mTLS only.
pub(crate) const STRICT: &str = "---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";

/// A policy for the workloads `app: NAME` of the default namespace.
pub(crate) fn policy(name: &str, app: &str, rest: &str) -> String {
    format!(
        "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: default}}
spec:
  selector: {{matchLabels: {{app: {app}}}}}
  {rest}
"
    )
}

/// A route for the mesh's own callers of `service`.
pub(crate) fn route(service: &str, rules: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {service}, namespace: default}}
spec:
  hosts: [{service}]
  http:
{rules}
"
    )
}

/// Versions v1 and v2 of one service, as processes and subsets.
pub(crate) fn versions(name: &str) -> String {
    let version = |version: &str| {
        let labels = format!("app: {name}, version: {version}");
        labelled(&format!("{name}-{version}"), "default", &labels, 1, "ports: [{name: http, port: 80}]")
    };
    let subsets = format!(
        "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: default}}
spec:
  host: {name}
  subsets:
    - {{name: v1, labels: {{version: v1}}}}
    - {{name: v2, labels: {{version: v2}}}}
"
    );
    version("v1") + &version("v2") + &service(name, "default", &format!("app: {name}"), "http") + &subsets
}

/// A share of requests for each version.
pub(crate) fn split(name: &str, first: u32, second: u32) -> String {
    route(
        name,
        &format!(
            "    - route:
        - {{destination: {{host: {name}, subset: v1}}, weight: {first}}}
        - {{destination: {{host: {name}, subset: v2}}, weight: {second}}}"
        ),
    )
}
