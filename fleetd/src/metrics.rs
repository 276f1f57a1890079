//! What fleetd counts, for Prometheus.

use std::sync::Arc;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// Handles to the figures. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// 1 while this host's engine leads.
    pub leader: Gauge,
    /// Placements that the engine wrote.
    pub placements: Counter,
    /// Machines that vanished and whose units the engine holds where they are.
    pub held_machines: Gauge,
    /// Requests that the API answered.
    pub requests: Counter,
    /// Units that the agent has on this host.
    pub units: Gauge,
    /// 1 while the host is registered.
    pub registered: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("fleet");
        let (leader, held_machines, units, registered) =
            (Gauge::default(), Gauge::default(), Gauge::default(), Gauge::default());
        let (placements, requests) = (Counter::default(), Counter::default());
        registry.register("engine_leader", "1 while this host's engine leads", leader.clone());
        registry.register("engine_placements", "Placements that the engine wrote", placements.clone());
        let held = "Machines that vanished and whose units the engine holds where they are";
        registry.register("engine_held_machines", held, held_machines.clone());
        registry.register("api_requests", "Requests that the API answered", requests.clone());
        registry.register("agent_units", "Units that the agent has on this host", units.clone());
        registry.register("machine_registered", "1 while the host is registered", registered.clone());
        Self { registry: Arc::new(registry), leader, placements, held_machines, requests, units, registered }
    }
}

impl Metrics {
    /// All figures in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes everything");
        text
    }
}
