//! Ready-made worlds: what a forwarder is to be tried against, by name. Plain settings; what a scenario
//! does is in `faults`, what sizes mean in `settings`.

use super::faults::Scenario;
use super::settings::{Identity, WorldConfig};
use super::stamp::MINUTE_MS;

/// Every ready-made world: its name and what it is like.
pub const WORLDS: &[(&str, &str)] = &[
    ("steady", "three tenants, a day of history, a few records a second, no faults"),
    ("backfill", "one tenant, a week of 200,000 records, nothing new"),
    ("outage-8d", "live traffic, an hour a second: stop the forwarder for 192 s, and it was away for eight days"),
    ("replay-storm", "nearly all that comes is what came days before, in new blobs"),
    ("one-noisy-tenant", "a hundred tenants, one of which has nine records of ten"),
    ("thousand-idle-tenants", "a thousand tenants in which hardly anything happens"),
    ("clock-skew", "the service's clock is nine minutes ahead, and its Date is now and then quite wrong"),
    ("chaos", "a week in which every fault but the monstrous ones strikes 1 to 5 objects of 100, an hour in a minute"),
];

impl WorldConfig {
    /// The ready-made world of this name; `None`: there is none.
    pub fn named(name: &str) -> Option<WorldConfig> {
        let world = WorldConfig::new();
        let world = match name {
            "steady" => world.tenants(3).records(20_000).days(1).live_rate(60.0),
            "backfill" => world.records(200_000),
            "outage-8d" => world.records(5_000).speed(3600.0).live(0.2, 5, 24 * 40).tune(|p| p.subscribed = true),
            "replay-storm" => world
                .records(5_000)
                .live_rate(60.0)
                .scenarios(&[Scenario::Replay, Scenario::Duplicates, Scenario::IdCase])
                .rates(0.9, 1.0),
            "one-noisy-tenant" => world.tenants(100).records(200_000).live_rate(2.0).noisy(90),
            "thousand-idle-tenants" => world.tenants(1000).records(5_000),
            "clock-skew" => world
                .records(10_000)
                .live_rate(30.0)
                .skew_ms(9 * MINUTE_MS)
                .scenario(Scenario::WrongDate)
                .rates(0.02, 0.02),
            "chaos" => world
                .tenants(2)
                .records(20_000)
                .speed(60.0)
                .live(0.5, 5, 7 * 24)
                .identity(Identity::Windowed)
                .scenarios(&Scenario::chaos())
                .rates(0.01, 0.05),
            _ => return None,
        };
        Some(world)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::World;

    #[test]
    fn every_name_has_a_world_and_the_noisy_one_is_noisy() {
        for (name, _) in WORLDS {
            assert!(WorldConfig::named(name).is_some(), "{name}");
        }
        assert!(WorldConfig::named("no-such").is_none());
        let world = World::new(WorldConfig::named("one-noisy-tenant").unwrap());
        let of = |tenant: usize| world.tenants[tenant].feeds.iter().map(|feed| feed.records).sum::<u64>();
        assert!(of(0) >= 180_000 && (1..100).all(|tenant| of(tenant) > 100), "{} {}", of(0), of(1));
        assert_eq!((0..100).map(of).sum::<u64>(), 200_000);
    }

    #[test]
    fn a_skewed_service_is_ahead_of_its_clients() {
        let world = World::new(WorldConfig::named("clock-skew").unwrap());
        let ahead = world.clock.now_ms() - crate::clock::world_ms();
        assert!((ahead - 9 * MINUTE_MS).abs() < 1000, "{ahead}");
    }
}
