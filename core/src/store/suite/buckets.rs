use super::*;
use crate::bucket::{Draw, Drawn, Rate};

fn draw(tag: &str, name: &str, times: u32) -> Draw {
    let per = TimeDelta::seconds(60);
    Draw::new(&[tag, name], Rate { times, per }).unwrap()
}

/// Draws are decided as the core has it, whatever came before, also by a clock that went wrong.
pub async fn buckets_are_drawn_from_as_decided<S: Store>(store: &S, tag: &str) {
    let draws = [draw(tag, "a", 3), draw(tag, "b", 7)];
    let mut full_at = [None, None];
    let offsets = [
        0, 0, 0, 0, 0, 1, 20, 20, 20, 21, 39, 40, 40, 100, 100, 3600, 3600, 3601, 0, 0, 1, 60, 61,
    ];
    for (n, offset) in offsets.into_iter().enumerate() {
        let now = start() + seconds(offset);
        for (draw, full_at) in draws.iter().zip(&mut full_at) {
            let expected = match draw.flow.decide(*full_at, now) {
                Ok(next) => {
                    *full_at = Some(next);
                    Drawn::Allowed
                }
                Err(wait) => Drawn::Refused(wait),
            };
            let drawn = store.draw(draw, now).await.unwrap();
            assert_eq!(drawn, expected, "{n} at {offset}");
            if n % 3 == 0 && drawn == Drawn::Allowed {
                store.put_back(draw).await.unwrap();
                *full_at = full_at.map(|full_at| draw.flow.put_back(full_at));
            }
        }
    }
}

/// Of draws at once as many are allowed as there are.
pub async fn a_bucket_is_never_overdrawn<S: Store>(store: &S, tag: &str) {
    let (draw, other) = (draw(tag, "a", 5), draw(tag, "b", 5));
    let draws = join_all((0..12).map(|_| store.draw(&draw, start()))).await;
    let allowed = draws.into_iter().map(Result::unwrap);
    assert_eq!(allowed.filter(|drawn| *drawn == Drawn::Allowed).count(), 5);
    assert_eq!(store.draw(&other, start()).await.unwrap(), Drawn::Allowed);
    join_all((0..2).map(|_| store.put_back(&draw))).await;
    for expected in [Drawn::Allowed, Drawn::Allowed, Drawn::Refused(seconds(12))] {
        assert_eq!(store.draw(&draw, start()).await.unwrap(), expected);
    }
}
