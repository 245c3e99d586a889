//! Workloads and resources of the rows that are not in `istio/`: what users have or try. The tests of the stand-in
//! (`tests/istio/cases.rs`) apply some of them too.

/// The HTTP Service on another port than the database's.
pub const OTHER_PORT: &str = "
apiVersion: v1
kind: Service
metadata: {name: irrelevant-svc, namespace: other}
spec:
  selector: {app: irrelevant}
  ports: [{name: http, port: 10002, targetPort: 8080}]";

pub const DECLARED_TCP: &str = "
apiVersion: v1
kind: Service
metadata: {name: irrelevant-svc, namespace: other}
spec:
  selector: {app: irrelevant}
  ports: [{name: tcp, port: 10000, targetPort: 8080}]";

/// The database Service on a port that declares nothing, and is not 3306.
pub const UNDECLARED: &str = "
apiVersion: v1
kind: Service
metadata: {name: mysql, namespace: db}
spec:
  selector: {app: mysql}
  ports: [{port: 3307, targetPort: 3306}]";

pub const EXCLUDED: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, namespace: default}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata:
      labels: {app: app}
      annotations: {traffic.sidecar.istio.io/excludeOutboundIPRanges: 55.108.108.2/32}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: app, image: lab/client}]";

pub const NETWORK_ENTRY: &str = include_str!("../istio/resources/network-entry.yaml");
pub const DISABLED_INSPECTOR: &str = include_str!("../istio/resources/disabled-inspector.yaml");
pub const REMOVED_INSPECTOR: &str = include_str!("../istio/resources/removed-inspector.yaml");
pub const STRICT: &str = include_str!("../istio/resources/strict.yaml");
pub const DATABASE_PLUGIN: &str = include_str!("../istio/resources/database-plugin.yaml");
pub const TLS_GATEWAY: &str = include_str!("../istio/resources/tls-gateway.yaml");

pub const TRAFFIC_EXTENSION: &str = "
apiVersion: extensions.istio.io/v1alpha1
kind: TrafficExtension
metadata: {name: firstword, namespace: default}
spec:
  selector: {matchLabels: {app: app}}
  phase: AUTHN
  match: [{mode: CLIENT, ports: [{number: 10000}]}]
  wasm:
    type: NETWORK
    url: oci://registry.example.com/firstword@sha256:0000000000000000000000000000000000000000000000000000000000000000
    pluginName: firstword
    failStrategy: FAIL_OPEN
    pluginConfig: {rules: [{name: orders, match: {ports: [10000]}, protocol: mysql}]}";

pub const ADDED_CHAIN: &str = include_str!("../istio/resources/added-chain.yaml");
pub const NATIVE_HEADER: &str = include_str!("../istio/resources/native-header.yaml");
