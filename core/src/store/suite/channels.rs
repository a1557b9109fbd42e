use super::*;
use crate::hook::Detail;
use crate::{Events, Format};

/// A channel of a workspace, one of many.
pub(super) fn numbered(tag: &str, workspace: &Workspace, n: u32) -> Channel {
    Channel {
        id: uuid_of(&format!("{tag} channel {n}")),
        workspace: workspace.clone(),
        name: format!("Kanal {n} 频道"),
        url: format!("https://example.com/{n}?key=é"),
        format: Format::ALL[n as usize % Format::ALL.len()],
        secret: "s".repeat(n as usize),
        events: Events::from_text("waiting,silent").unwrap(),
        delay_seconds: n.checked_sub(1),
        detail: Detail::ALL[n as usize % 3],
        enabled: n.is_multiple_of(2),
        gone: n.is_multiple_of(3),
        created_at: start() + seconds(n.into()),
        updated_at: start() + seconds(n.into()),
    }
}

/// A workspace's channels come back as they were, oldest first, and others have their own.
pub async fn channels_are_listed_changed_and_deleted<S: Store>(store: &S, tag: &str) {
    let (own, other) = (workspace(tag), workspace(&format!("{tag} other")));
    assert_eq!(store.channels(&own).await.unwrap(), []);
    let all: Vec<Channel> = (0..11).map(|n| numbered(tag, &own, n)).collect();
    for channel in all.iter().rev() {
        let created = store.create_channel(channel, 20).await.unwrap();
        assert_eq!(created, ChannelCreation::Created);
    }
    assert_eq!(store.channels(&own).await.unwrap(), all);
    assert_eq!(store.channels(&other).await.unwrap(), []);

    let id = &all[3].id;
    assert!(!store.delete_channel(&other, id).await.unwrap());
    assert!(store.delete_channel(&own, id).await.unwrap());
    assert!(!store.delete_channel(&own, id).await.unwrap());
    let left = [&all[..3], &all[4..]].concat();
    assert_eq!(store.channels(&own).await.unwrap(), left);
}

/// A workspace has no more channels than it may, also when many are made at once. One that is deleted
/// makes room for another.
pub async fn a_workspace_has_only_so_many_channels<S: Store>(store: &S, tag: &str) {
    const MOST: usize = 5;
    let own = workspace(tag);
    let create = async |n| loop {
        match store.create_channel(&numbered(tag, &own, n), MOST).await {
            Err(StoreError::Contended) => {}
            outcome => break outcome.unwrap(),
        }
    };
    let outcomes = join_all((0..12).map(create)).await;
    let made = outcomes
        .iter()
        .filter(|outcome| **outcome == ChannelCreation::Created);
    assert_eq!(made.count(), MOST);
    let listed = store.channels(&own).await.unwrap();
    assert_eq!(listed.len(), MOST);

    assert_eq!(create(20).await, ChannelCreation::TooMany);
    assert!(store.delete_channel(&own, &listed[1].id).await.unwrap());
    assert_eq!(create(21).await, ChannelCreation::Created);
    assert_eq!(create(22).await, ChannelCreation::TooMany);
    let other = workspace(&format!("{tag} other"));
    let of_other = numbered(tag, &other, 30);
    let created = store.create_channel(&of_other, MOST).await.unwrap();
    assert_eq!(created, ChannelCreation::Created);
}

/// Of two changes to one version one is made; what has been deleted is not changed.
pub async fn a_channel_is_changed_from_what_it_was<S: Store>(store: &S, tag: &str) {
    let own = workspace(tag);
    let first = numbered(tag, &own, 1);
    let created = store.create_channel(&first, 20).await.unwrap();
    assert_eq!(created, ChannelCreation::Created);
    let later = |tick: i32, name: &str| Channel {
        created_at: first.created_at,
        updated_at: first.updated_at + TICK * tick,
        id: first.id.clone(),
        name: name.into(),
        ..numbered(tag, &own, 2)
    };
    let version = first.updated_at;
    let (second, third) = (later(1, "second"), later(2, "third"));
    assert!(store.update_channel(&second, version).await.unwrap());
    assert!(!store.update_channel(&third, version).await.unwrap());
    assert_eq!(
        store.channels(&own).await.unwrap(),
        std::slice::from_ref(&second)
    );
    let version = second.updated_at;
    assert!(store.update_channel(&third, version).await.unwrap());
    assert_eq!(
        store.channels(&own).await.unwrap(),
        std::slice::from_ref(&third)
    );

    let stranger = Channel {
        workspace: workspace(&format!("{tag} other")),
        ..third.clone()
    };
    let version = third.updated_at;
    assert!(!store.update_channel(&stranger, version).await.unwrap());
    assert!(store.delete_channel(&own, &first.id).await.unwrap());
    assert!(!store.update_channel(&third, version).await.unwrap());
}
