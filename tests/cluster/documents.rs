//! Workloads and resources of the rows that are not in `istio/`: what users have or try.

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

pub const NETWORK_ENTRY: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: network, namespace: default}
spec:
  hosts: [network.external]
  addresses: [55.108.108.0/24]
  resolution: NONE
  ports: [{number: 10000, name: tcp-mysql, protocol: TCP}]";

pub const DISABLED_INSPECTOR: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: merge, namespace: default}
spec:
  configPatches:
  - applyTo: LISTENER_FILTER
    match:
      context: SIDECAR_OUTBOUND
      listener: {name: 0.0.0.0_10000, listenerFilter: envoy.filters.listener.http_inspector}
    patch:
      operation: MERGE
      value: {filter_disabled: {destination_port_range: {start: 10000, end: 10001}}}";

pub const REMOVED_INSPECTOR: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: remove, namespace: default}
spec:
  configPatches:
  - applyTo: LISTENER_FILTER
    match:
      context: SIDECAR_OUTBOUND
      listener: {name: 0.0.0.0_10000, listenerFilter: envoy.filters.listener.http_inspector}
    patch: {operation: REMOVE}";

pub const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: db}
spec: {mtls: {mode: STRICT}}";

pub const DATABASE_PLUGIN: &str = "
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: firstword, namespace: db}
spec:
  selector: {matchLabels: {app: mysql}}
  type: NETWORK
  url: oci://registry.example.com/firstword@sha256:0000000000000000000000000000000000000000000000000000000000000000
  pluginName: firstword
  phase: AUTHN
  failStrategy: FAIL_OPEN
  match: [{mode: SERVER, ports: [{number: 3306}]}]";

pub const TLS_GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: mysql, namespace: db}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 3306, name: tls-mysql, protocol: TLS}, tls: {mode: PASSTHROUGH}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mysql, namespace: db}
spec:
  hosts: ['*']
  gateways: [mysql]
  tls:
  - match: [{port: 3306, sniHosts: ['*']}]
    route: [{destination: {host: mysql.db.svc.cluster.local, port: {number: 3306}}}]";

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

pub const ADDED_CHAIN: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: chain, namespace: default}
spec:
  configPatches:
  - applyTo: FILTER_CHAIN
    match: {context: SIDECAR_OUTBOUND, listener: {name: 0.0.0.0_10000}}
    patch:
      operation: ADD
      value:
        filter_chain_match: {prefix_ranges: [{address_prefix: 55.108.108.2, prefix_len: 32}]}
        filters:
        - name: envoy.filters.network.tcp_proxy
          typed_config:
            '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
            stat_prefix: chain
            cluster: PassthroughCluster";

pub const NATIVE_HEADER: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: native, namespace: db}
spec:
  workloadSelector: {labels: {app: mysql}}
  configPatches:
  - applyTo: LISTENER_FILTER
    match: {context: SIDECAR_INBOUND, listener: {name: virtualInbound}}
    patch:
      operation: INSERT_FIRST
      value:
        name: envoy.filters.listener.proxy_protocol
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol
          allow_requests_without_proxy_protocol: true";
