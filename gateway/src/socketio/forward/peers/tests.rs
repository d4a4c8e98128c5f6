use std::sync::atomic::Ordering;

use broker_core::ports::BusError;
use futures_util::future::join_all;
use tokio::time;

use super::*;
use crate::{
    api::DoorKey,
    socketio::forward::fake::{FakeBus, lease, store},
};

struct World {
    store: Arc<dyn Presence>,
    bus: Arc<FakeBus>,
    peers: Peers,
}

async fn world() -> World {
    let (store, bus) = (store().await, Arc::<FakeBus>::default());
    let peers = Peers::new(Arc::clone(&store), Arc::<FakeBus>::clone(&bus));
    World { store, bus, peers }
}

fn door() -> Door {
    Door { address: "10.0.0.1:7400".to_owned(), key: DoorKey::random() }
}

impl World {
    async fn find(&self, node: &str) -> Result<Door, NotForwarded> {
        let owner = Owner::of(&node.parse().unwrap());
        self.peers.find(owner).await.map(|(_, door)| Door::clone(&door))
    }

    fn asked(&self) -> usize {
        self.bus.asked.swap(0, Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_is_asked_once_for_its_door() {
    let world = world().await;
    let door = door();
    lease(&*world.store, "a").await;
    world.bus.answers("a", Ok(door.clone()));
    for found in join_all((0..10).map(|_| world.find("a"))).await {
        assert_eq!(found, Ok(door.clone()));
    }
    assert_eq!(world.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn made_up_names_cost_the_store_and_the_bus_nothing() {
    let world = world().await;
    assert_eq!(world.find("a").await, Err(NotForwarded::Unknown));
    lease(&*world.store, "a").await;
    world.bus.answers("a", Ok(door()));
    assert_eq!(world.find("a").await, Err(NotForwarded::Unknown), "the store was asked just now");
    assert_eq!(world.asked(), 0);
    time::advance(LOOK_AGAIN).await;
    assert!(world.find("a").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_door_that_was_shut_is_asked_for_anew() {
    let world = world().await;
    lease(&*world.store, "a").await;
    world.bus.answers("a", Ok(door()));
    let owner = Owner::of(&"a".parse().unwrap());
    let (peer, first) = world.peers.find(owner).await.unwrap();
    world.bus.answers("a", Ok(door()));
    peer.was_not_at(&first).await;
    let (_, second) = world.peers.find(owner).await.unwrap();
    assert_ne!(first, second);
    // Word of the old door comes late.
    peer.was_not_at(&first).await;
    assert_eq!(world.peers.find(owner).await.unwrap().1, second);
    assert_eq!(world.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_does_not_answer_is_left_in_peace() {
    let world = world().await;
    lease(&*world.store, "silent").await;
    lease(&*world.store, "gone").await;
    world.bus.answers("silent", Err(BusError::Timeout));
    world.bus.is_gone("gone");
    for (node, why) in [("silent", NotForwarded::Unreachable), ("gone", NotForwarded::Unknown)] {
        for _ in 0..10 {
            assert_eq!(world.find(node).await, Err(why), "{node}");
        }
        assert_eq!(world.asked(), 1);
    }
    time::advance(ASK_AGAIN).await;
    world.bus.answers("silent", Ok(door()));
    assert!(world.find("silent").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn those_without_a_lease_are_forgotten() {
    let world = world().await;
    lease(&*world.store, "a").await;
    lease(&*world.store, "b").await;
    world.bus.answers("a", Ok(door()));
    world.bus.answers("b", Ok(door()));
    assert!(world.find("a").await.is_ok());
    assert!(world.find("b").await.is_ok());
    world.store.retire("a".parse().unwrap()).await.unwrap();
    time::advance(LOOK_AGAIN).await;
    assert_eq!(world.find("unknown").await, Err(NotForwarded::Unknown));
    assert_eq!(world.find("a").await, Err(NotForwarded::Unknown));
    world.asked();
    assert!(world.find("b").await.is_ok());
    assert_eq!(world.asked(), 0, "the others are still known");
}
