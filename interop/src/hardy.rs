//! A node of Hardy (hardy-bpa, hardy-tcpclv4): an application that takes and gives payloads, and a service that sends bundles
//! as they are.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hardy_async::sync::spin::Once;
use hardy_bpa::bpa::{Bpa, BpaRegistration};
use hardy_bpa::keys::KeyProvider;
use hardy_bpa::node_ids::NodeIds;
use hardy_bpa::services::{self, Application, ApplicationSink, Service, ServiceSink, StatusNotify};
use hardy_bpa::{Bytes, async_trait};
use hardy_bpv7::bpsec::key::{Key, KeySet, KeySource};
use hardy_bpv7::bundle::{Bundle, Id};
use hardy_bpv7::eid::{self, Eid, IpnNodeId, NodeId};
use hardy_bpv7::status_report::ReasonCode;
use hardy_tcpclv4::{Cla, config::Config};

/// A running node.
pub struct Node {
    runtime: tokio::runtime::Runtime,
    bpa: Arc<Bpa>,
    cla: Arc<Cla>,
    app: Arc<App>,
    raw: Arc<Raw>,
    received: Receiver<(String, Vec<u8>)>,
    /// Where it listens for TCPCL.
    pub address: SocketAddr,
}

struct App {
    sink: Once<Box<dyn ApplicationSink>>,
    received: Mutex<Sender<(String, Vec<u8>)>>,
}

struct Raw {
    sink: Once<Box<dyn ServiceSink>>,
}

struct Keys(Vec<Key>);

impl Node {
    /// A node `ipn:node.0` with an application at service 1 and a service of bundles at 2.
    pub fn start(node: u32, keys: Vec<Key>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let address = crate::ours::free_address();
        let (send, received) = channel();
        let app = Arc::new(App { sink: Once::new(), received: Mutex::new(send) });
        let raw = Arc::new(Raw { sink: Once::new() });
        let config = Config { address: Some(address), ..Config::default() };
        let cla = Arc::new(Cla::new(&config).unwrap());
        let (app_, raw_, cla_) = (app.clone(), raw.clone(), cla.clone());
        let bpa = runtime.block_on(async move {
            let id = NodeId::Ipn(IpnNodeId { allocator_id: 0, node_number: node });
            let ids = NodeIds::try_from([id].as_slice()).unwrap();
            let bpa = Bpa::builder().node_ids(ids).key_provider(Arc::new(Keys(keys))).build().await.unwrap();
            let bpa = Arc::new(bpa);
            bpa.start(false);
            bpa.register_application(eid::Service::Ipn(1), app_).await.unwrap();
            bpa.register_service(eid::Service::Ipn(2), raw_).await.unwrap();
            bpa.register_cla("tcp".into(), cla_, None).await.unwrap();
            bpa
        });
        Self { runtime, bpa, cla, app, raw, received, address }
    }

    /// Connects to a TCPCL node at `address`.
    pub fn connect(&self, address: SocketAddr) {
        let cla = self.cla.clone();
        self.runtime.spawn(async move { cla.connect(&address).await });
    }

    /// Its application sends a payload.
    pub fn send(&self, destination: &str, payload: Vec<u8>) {
        let sink = self.app.sink.get().unwrap();
        let sending = sink.send(destination.parse().unwrap(), payload.into(), Duration::from_secs(3600), None);
        self.runtime.block_on(sending).unwrap();
    }

    /// Its service sends a bundle as it is.
    pub fn send_bundle(&self, bundle: Vec<u8>) {
        self.runtime.block_on(self.raw.sink.get().unwrap().send(bundle.into())).unwrap();
    }

    /// The next payload that its application received, and from whom.
    pub fn received(&self, wait: Duration) -> Option<(String, Vec<u8>)> {
        self.received.recv_timeout(wait).ok()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ =
            self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), self.bpa.shutdown()).await });
    }
}

impl KeyProvider for Keys {
    fn key_source(&self, _: &Bundle, _: &[u8]) -> Box<dyn KeySource> {
        Box::new(KeySet::new(self.0.clone()))
    }
}

#[async_trait]
impl Application for App {
    async fn on_register(&self, _: &Eid, sink: Box<dyn ApplicationSink>) {
        self.sink.call_once(|| sink);
    }
    async fn on_unregister(&self) {}
    async fn on_receive(&self, from: Eid, _: time::OffsetDateTime, _: bool, payload: Bytes) -> services::Result<()> {
        let _ = self.received.lock().unwrap().send((from.to_string(), payload.to_vec()));
        Ok(())
    }
    async fn on_status_notify(&self, _: &Id, _: &Eid, _: StatusNotify, _: ReasonCode, _: Option<time::OffsetDateTime>) {
    }
}

#[async_trait]
impl Service for Raw {
    async fn on_register(&self, _: &Eid, sink: Box<dyn ServiceSink>) {
        self.sink.call_once(|| sink);
    }
    async fn on_unregister(&self) {}
    async fn on_receive(&self, _: Bytes, _: time::OffsetDateTime) -> services::Result<()> {
        Ok(())
    }
    async fn on_status_notify(&self, _: &Id, _: &Eid, _: StatusNotify, _: ReasonCode, _: Option<time::OffsetDateTime>) {
    }
}
