//! Fixes for connections to a database's pod, to a gateway, and for PROXY headers.

use super::template::{
    GATEWAY, PEER_AUTHENTICATION, RECEIVE, RECEIVE_AT_GATEWAY, SEND, SERVICE, SERVICE_PORT, Template, Values,
    fix,
};
use super::values::{number, service_port};
use super::workload::{ServicePort, Workload};
use crate::findings::Fix;

/// What a Service's port costs that becomes TCP.
const DECLARED: &str =
    "none for a database. Clients that speak HTTP on the port lose routes by host and path.";

/// What it costs to turn off mutual TLS.
const WITHOUT_MTLS: &str = "mutual TLS is off on the port for all clients, also for those with a sidecar, which then send plain text. All \
                            inbound connections of the pod are closed once, after the drain time.";

impl Workload {
    /// Advice for clients outside the mesh.
    pub(in super::super) fn into_the_mesh() -> Fix {
        Fix::advice(
            "Give the clients a sidecar, or let them connect through a gateway with protocol TCP. They then come by mutual TLS and \
             are greeted at once",
            "the clients' pods restart.",
        )
    }

    fn peer_authentication_values(&self, port: u16) -> Vec<(&'static str, String)> {
        let name = ("firstword-mysql", format!("firstword-{port}"));
        [self.server(), number(3306, port), vec![name]].concat()
    }

    pub(in super::super) fn peer_authentication(&self, port: u16) -> Fix {
        let what = format!("Turn off the mesh's mutual TLS on port {port}{}", self.unknown());
        fix(what, WITHOUT_MTLS, &[(&PEER_AUTHENTICATION, &self.peer_authentication_values(port))])
            .lowering_security()
    }

    /// Declares a port as TCP that no Service has. With `mtls`, also turns off the mesh's TLS for it.
    pub(in super::super) fn service(&self, port: u16, mtls: bool) -> Fix {
        let own_name = self.label.as_deref().and_then(|label| label.split(": ").nth(1)).unwrap_or("mysql");
        let name = ("name: mysql", format!("name: {}", own_name.trim_matches('"')));
        let values = [self.server(), number(3306, port), vec![name]].concat();
        let what = format!("Create a Service that declares port {port} as TCP{}", self.unknown());
        self.perhaps_without_mtls(what, DECLARED, (&SERVICE, &values), port, mtls)
    }

    /// Declares a port of a Service as TCP. With `mtls`, also turns off the mesh's TLS for it.
    pub(in super::super) fn declared(&self, service: &ServicePort, port: u16, mtls: bool) -> Fix {
        let what = declares(service) + if mtls { " for the first document; apply the second" } else { "" };
        self.perhaps_without_mtls(what, DECLARED, (&SERVICE_PORT, &service_port(service)), port, mtls)
    }

    pub(in super::super) fn gateway(&self, port: u16, to: Option<&ServicePort>) -> Fix {
        let mut values = number(3306, port);
        values.push(("istio: ingressgateway", self.label("istio: ingressgateway").to_owned()));
        if let Some(to) = to {
            values.push(("name: mysql", format!("name: {}", to.name)));
            values.push(("gateways: [mysql]", format!("gateways: [{}]", to.name)));
            values.push(("namespace: db", format!("namespace: {}", to.namespace)));
            let destination = format!("host: {}, port: {{number: {}}}", to.host, to.port);
            values.push(("host: mysql.db.svc.cluster.local, port: {number: 3306}", destination));
        }
        fix(
            format!("Set protocol TCP for the Gateway's server on port {port}, in place of what it has now"),
            "no routing by SNI on that port. A MySQL client's own TLS goes on to the server.",
            &[(&GATEWAY, &values)],
        )
    }

    /// Replaces Envoy's own filter by Firstword. With `mtls`, also turns off the mesh's TLS, for clients without a header.
    pub(in super::super) fn receive(&self, port: u16, mtls: bool) -> Fix {
        let values = [self.server(), number(3306, port)].concat();
        let what = format!(
            "Let Firstword remove the header, in place of the listener filter; list the networks whose headers to believe{}",
            self.unknown()
        );
        let price = "needs the module. Clients with neither a header nor a sidecar hang unless mutual TLS is off on the port. An \
                     AuthorizationPolicy does not see the address in the header.";
        self.perhaps_without_mtls(what, price, (&RECEIVE, &values), port, mtls)
    }

    /// A fix from one file, with a second file if mutual TLS has to be turned off.
    fn perhaps_without_mtls(
        &self,
        what: String,
        price: &str,
        file: (&Template, Values),
        port: u16,
        mtls: bool,
    ) -> Fix {
        let mutual = self.peer_authentication_values(port);
        let both: [(&Template, Values); 2] = [file, (&PEER_AUTHENTICATION, &mutual)];
        if mtls {
            fix(what, WITHOUT_MTLS, &both).lowering_security()
        } else {
            fix(what, price, both.get(..1).unwrap_or_default())
        }
    }

    pub(in super::super) fn receive_at_gateway(&self, port: u16) -> Fix {
        let mut values = number(3306, port);
        values.push(("istio: ingressgateway", self.label("istio: ingressgateway").to_owned()));
        values.push(("namespace: istio-system", format!("namespace: {}", self.namespace("istio-system"))));
        fix(
            "Let tcp_proxy read before it has connected; list the networks whose headers to believe",
            "needs Istio 1.29. Clients without a header are closed after 3 seconds.",
            &[(&RECEIVE_AT_GATEWAY, &values)],
        )
    }
}

/// Declares the port of a Service as TCP, for a client outside its pod.
pub(in super::super) fn service_port_tcp(service: &ServicePort) -> Fix {
    fix(declares(service), DECLARED, &[(&SERVICE_PORT, &service_port(service))])
}

/// Lets Envoy send the header as soon as it has connected.
pub(in super::super) fn send(service: Option<&ServicePort>) -> Fix {
    let mut values = Vec::new();
    if let Some(service) = service {
        values.push(("name: mysql", format!("name: {}", service.name)));
        values.push(("namespace: db", format!("namespace: {}", service.namespace)));
        values.push(("mysql.db.svc.cluster.local", service.host.clone()));
    }
    fix(
        "Let Envoy itself send the header, as soon as it has connected",
        "the server must expect headers and believe the pods' network. Remove the rule of Firstword.",
        &[(&SEND, &values)],
    )
}

fn declares(service: &ServicePort) -> String {
    let ServicePort { name, namespace, port, .. } = service;
    format!(
        "Declare port {port} of the Service {namespace}/{name} as TCP, by kubectl patch service {name} -n {namespace} --patch-file FILE"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `kubectl apply` of a part of a Service can remove its selector, so the fix names the command of its file.
    #[test]
    fn a_port_of_a_service_is_declared_by_a_patch() {
        let command = SERVICE_PORT.text.lines().find_map(|line| line.strip_prefix("#   ")).unwrap();
        let command = command.replace(SERVICE_PORT.path, "FILE");
        let service = ServicePort::of_cluster("outbound|3307||orders.shop.svc.cluster.local").unwrap();
        let expected = command.replace("mysql -n db", "orders -n shop");
        assert_ne!(command, expected);
        assert!(service_port_tcp(&service).what.ends_with(&format!(", by {expected}")), "{expected}");
        let workload = Workload::default();
        for (mtls, documents) in [(false, 1), (true, 2)] {
            let fix = workload.declared(&service, 3306, mtls);
            assert!(fix.what.contains(&expected), "{}", fix.what);
            assert_eq!(fix.what.ends_with("for the first document; apply the second"), mtls, "{}", fix.what);
            assert_eq!(fix.yaml.split("---\n").count(), documents);
            assert_eq!(fix.security, mtls);
            assert!(!fix.yaml.contains("#   "), "{}", fix.yaml);
        }
    }
}
