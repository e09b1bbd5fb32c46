//! Compiles the listeners of the gateways that the viewer plays.

use super::Compiler;
use super::index::Dirty;
use crate::gateway::{GatewayTables, Place, places};
use crate::routes::RouteTable;
use lateen_model::Key;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Compiler {
    /// When a gateway changed all its hosts are placed again; else only the hosts of changed routes.
    pub(super) fn compile_gateways(&mut self, dirty: &Dirty) {
        for key in &dirty.credentials {
            match self.index.entries.get(key) {
                Some(entry) => drop(self.next.credentials.insert(key.clone(), Arc::clone(entry))),
                None => drop(self.next.credentials.remove(key)),
            }
        }
        let routes: BTreeSet<Key> = if dirty.gateways {
            let played = self.index.gateways.values().cloned().collect();
            self.next.gateway = Arc::new(GatewayTables::new(played));
            self.placed.clear();
            self.places.clear();
            let attached = self.index.gateways.keys().filter_map(|key| self.index.gateway_routes.get(key));
            attached.flatten().cloned().collect()
        } else {
            dirty.compiled.clone()
        };
        let stale: BTreeSet<Place> = routes.iter().flat_map(|key| self.place(key)).collect();
        if stale.is_empty() {
            return;
        }
        let mut tables = (*self.next.gateway).clone();
        for place in stale {
            tables.set(&place, self.table_at(&place));
        }
        self.next.gateway = Arc::new(tables);
    }

    /// Puts a route to where it belongs now. What it left and what it came to is stale.
    fn place(&mut self, key: &Key) -> BTreeSet<Place> {
        let before = self.places.remove(key).unwrap_or_default();
        for place in &before {
            if let Some(keys) = self.placed.get_mut(place) {
                keys.remove(key);
                if keys.is_empty() {
                    self.placed.remove(place);
                }
            }
        }
        let mut after = Vec::new();
        if let Some(compiled) = self.routes.get(key).filter(|compiled| !compiled.rules.is_empty()) {
            after = self.index.gateways.values().flat_map(|entry| places(entry, compiled.route())).collect();
            for place in &after {
                self.placed.entry(place.clone()).or_default().insert(key.clone());
            }
        }
        let stale = before.into_iter().chain(after.iter().cloned()).collect();
        if !after.is_empty() {
            self.places.insert(key.clone(), after);
        }
        stale
    }

    fn table_at(&self, place: &Place) -> Option<Arc<RouteTable>> {
        let keys = self.placed.get(place)?;
        let mut routes: Vec<_> = keys.iter().filter_map(|key| self.routes.get(key)).cloned().collect();
        routes.sort_by(|a, b| (a.route().created, &a.entry.key).cmp(&(b.route().created, &b.entry.key)));
        Some(Arc::new(RouteTable::new(&routes, &self.index.viewer, Some(place.port))))
    }
}
