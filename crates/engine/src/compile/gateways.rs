//! Compiles the listeners of the gateways that the viewer plays.

use super::Compiler;
use super::index::Dirty;
use crate::gateway::{GatewayTables, Place, places};
use crate::routes::RouteTable;
use crate::rule::CompiledRoute;
use lateen_model::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Compiler {
    /// When a gateway changed all its routes are placed again; else only those that changed.
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
            let attached = self.index.gateways.keys().filter_map(|key| self.index.gateway_routes.get(key));
            attached.flatten().cloned().collect()
        } else {
            dirty.compiled.clone()
        };
        let mut edits = BTreeMap::new();
        routes.iter().for_each(|key| self.place(key, &mut edits));
        if edits.is_empty() {
            return;
        }
        let mut tables = (*self.next.gateway).clone();
        for (place, edits) in edits {
            let table = self.edited(tables.get(&place), &place, &edits);
            tables.set(&place, table);
        }
        self.next.gateway = Arc::new(tables);
    }

    /// Puts a route to where it belongs now: it leaves where it was as it was, and comes as it is.
    fn place(&mut self, key: &Key, edits: &mut BTreeMap<Place, Vec<Edit>>) {
        if let Some(before) = self.placed.remove(key) {
            for place in before.places {
                edits.entry(place).or_default().push(Edit::Gone(Arc::clone(&before.route)));
            }
        }
        let Some(route) = self.routes.get(key).filter(|compiled| !compiled.rules.is_empty()) else { return };
        let places: Vec<_> =
            self.index.gateways.values().flat_map(|entry| places(entry, route.route())).collect();
        for place in &places {
            edits.entry(place.clone()).or_default().push(Edit::Here(Arc::clone(route)));
        }
        if !places.is_empty() {
            self.placed.insert(key.clone(), Placed { route: Arc::clone(route), places });
        }
    }

    fn edited(
        &self,
        table: Option<&Arc<RouteTable>>,
        place: &Place,
        edits: &[Edit],
    ) -> Option<Arc<RouteTable>> {
        let mut table = table.map_or_else(RouteTable::default, |table| (**table).clone());
        let (viewer, port) = (&self.index.viewer, Some(place.port));
        for edit in edits {
            match edit {
                Edit::Gone(route) => table.remove(route, viewer, port),
                Edit::Here(route) => table.add(route, viewer, port),
            }
        }
        (!table.is_empty()).then(|| Arc::new(table))
    }
}

/// A route as it was compiled when it was put to its places.
pub(super) struct Placed {
    route: Arc<CompiledRoute>,
    places: Vec<Place>,
}

/// What happens to a route at a place.
enum Edit {
    Gone(Arc<CompiledRoute>),
    Here(Arc<CompiledRoute>),
}
