//! Keys: `snake_case` as in the JSON-RPC dialect, which is how the rest of this folder knows them, and what the older dialect calls them.

/// Keys of answers that the older dialect writes another way, sorted.
const OLDER: &[(&str, &str)] = &[
    ("active_torrent_count", "activeTorrentCount"),
    ("activity_date", "activityDate"),
    ("added_date", "addedDate"),
    ("alt_speed_down", "alt-speed-down"),
    ("alt_speed_enabled", "alt-speed-enabled"),
    ("alt_speed_time_begin", "alt-speed-time-begin"),
    ("alt_speed_time_day", "alt-speed-time-day"),
    ("alt_speed_time_enabled", "alt-speed-time-enabled"),
    ("alt_speed_time_end", "alt-speed-time-end"),
    ("alt_speed_up", "alt-speed-up"),
    ("announce_state", "announceState"),
    ("anti_brute_force_enabled", "anti-brute-force-enabled"),
    ("anti_brute_force_threshold", "anti-brute-force-threshold"),
    ("bandwidth_priority", "bandwidthPriority"),
    ("blocklist_enabled", "blocklist-enabled"),
    ("blocklist_size", "blocklist-size"),
    ("blocklist_url", "blocklist-url"),
    ("bytes_completed", "bytesCompleted"),
    ("cache_size_mib", "cache-size-mb"),
    ("client_is_choked", "clientIsChoked"),
    ("client_is_interested", "clientIsInterested"),
    ("client_name", "clientName"),
    ("config_dir", "config-dir"),
    ("corrupt_ever", "corruptEver"),
    ("cumulative_stats", "cumulative-stats"),
    ("current_stats", "current-stats"),
    ("date_created", "dateCreated"),
    ("default_trackers", "default-trackers"),
    ("desired_available", "desiredAvailable"),
    ("dht_enabled", "dht-enabled"),
    ("done_date", "doneDate"),
    ("download_count", "downloadCount"),
    ("download_dir", "download-dir"),
    ("download_dir_free_space", "download-dir-free-space"),
    ("download_limit", "downloadLimit"),
    ("download_limited", "downloadLimited"),
    ("download_queue_enabled", "download-queue-enabled"),
    ("download_queue_size", "download-queue-size"),
    ("download_speed", "downloadSpeed"),
    ("downloaded_bytes", "downloadedBytes"),
    ("downloaded_ever", "downloadedEver"),
    ("edit_date", "editDate"),
    ("error_string", "errorString"),
    ("eta_idle", "etaIdle"),
    ("file_count", "file-count"),
    ("file_stats", "fileStats"),
    ("files_added", "filesAdded"),
    ("flag_str", "flagStr"),
    ("from_cache", "fromCache"),
    ("from_dht", "fromDht"),
    ("from_incoming", "fromIncoming"),
    ("from_lpd", "fromLpd"),
    ("from_ltep", "fromLtep"),
    ("from_pex", "fromPex"),
    ("from_tracker", "fromTracker"),
    ("has_announced", "hasAnnounced"),
    ("has_scraped", "hasScraped"),
    ("hash_string", "hashString"),
    ("have_unchecked", "haveUnchecked"),
    ("have_valid", "haveValid"),
    ("honors_session_limits", "honorsSessionLimits"),
    ("idle_seeding_limit", "idle-seeding-limit"),
    ("idle_seeding_limit_enabled", "idle-seeding-limit-enabled"),
    ("incomplete_dir", "incomplete-dir"),
    ("incomplete_dir_enabled", "incomplete-dir-enabled"),
    ("is_backup", "isBackup"),
    ("is_downloading_from", "isDownloadingFrom"),
    ("is_encrypted", "isEncrypted"),
    ("is_finished", "isFinished"),
    ("is_incoming", "isIncoming"),
    ("is_private", "isPrivate"),
    ("is_stalled", "isStalled"),
    ("is_uploading_to", "isUploadingTo"),
    ("is_utp", "isUTP"),
    ("last_announce_peer_count", "lastAnnouncePeerCount"),
    ("last_announce_result", "lastAnnounceResult"),
    ("last_announce_start_time", "lastAnnounceStartTime"),
    ("last_announce_succeeded", "lastAnnounceSucceeded"),
    ("last_announce_time", "lastAnnounceTime"),
    ("last_announce_timed_out", "lastAnnounceTimedOut"),
    ("last_scrape_result", "lastScrapeResult"),
    ("last_scrape_start_time", "lastScrapeStartTime"),
    ("last_scrape_succeeded", "lastScrapeSucceeded"),
    ("last_scrape_time", "lastScrapeTime"),
    ("last_scrape_timed_out", "lastScrapeTimedOut"),
    ("leecher_count", "leecherCount"),
    ("left_until_done", "leftUntilDone"),
    ("lpd_enabled", "lpd-enabled"),
    ("magnet_link", "magnetLink"),
    ("manual_announce_time", "manualAnnounceTime"),
    ("max_connected_peers", "maxConnectedPeers"),
    ("memory_bytes", "memory-bytes"),
    ("memory_units", "memory-units"),
    ("metadata_percent_complete", "metadataPercentComplete"),
    ("next_announce_time", "nextAnnounceTime"),
    ("next_scrape_time", "nextScrapeTime"),
    ("paused_torrent_count", "pausedTorrentCount"),
    ("peer_is_choked", "peerIsChoked"),
    ("peer_is_interested", "peerIsInterested"),
    ("peer_limit", "peer-limit"),
    ("peer_limit_global", "peer-limit-global"),
    ("peer_limit_per_torrent", "peer-limit-per-torrent"),
    ("peer_port", "peer-port"),
    ("peer_port_random_on_start", "peer-port-random-on-start"),
    ("peers_connected", "peersConnected"),
    ("peers_from", "peersFrom"),
    ("peers_getting_from_us", "peersGettingFromUs"),
    ("peers_sending_to_us", "peersSendingToUs"),
    ("percent_complete", "percentComplete"),
    ("percent_done", "percentDone"),
    ("pex_enabled", "pex-enabled"),
    ("piece_count", "pieceCount"),
    ("piece_size", "pieceSize"),
    ("port_forwarding_enabled", "port-forwarding-enabled"),
    ("port_is_open", "port-is-open"),
    ("primary_mime_type", "primary-mime-type"),
    ("queue_position", "queuePosition"),
    ("queue_stalled_enabled", "queue-stalled-enabled"),
    ("queue_stalled_minutes", "queue-stalled-minutes"),
    ("rate_download", "rateDownload"),
    ("rate_to_client", "rateToClient"),
    ("rate_to_peer", "rateToPeer"),
    ("rate_upload", "rateUpload"),
    ("recheck_progress", "recheckProgress"),
    ("rename_partial_files", "rename-partial-files"),
    ("rpc_version", "rpc-version"),
    ("rpc_version_minimum", "rpc-version-minimum"),
    ("rpc_version_semver", "rpc-version-semver"),
    ("scrape_state", "scrapeState"),
    ("script_torrent_added_enabled", "script-torrent-added-enabled"),
    ("script_torrent_added_filename", "script-torrent-added-filename"),
    ("script_torrent_done_enabled", "script-torrent-done-enabled"),
    ("script_torrent_done_filename", "script-torrent-done-filename"),
    ("script_torrent_done_seeding_enabled", "script-torrent-done-seeding-enabled"),
    ("script_torrent_done_seeding_filename", "script-torrent-done-seeding-filename"),
    ("seconds_active", "secondsActive"),
    ("seconds_downloading", "secondsDownloading"),
    ("seconds_seeding", "secondsSeeding"),
    ("seed_idle_limit", "seedIdleLimit"),
    ("seed_idle_mode", "seedIdleMode"),
    ("seed_queue_enabled", "seed-queue-enabled"),
    ("seed_queue_size", "seed-queue-size"),
    ("seed_ratio_limit", "seedRatioLimit"),
    ("seed_ratio_limited", "seedRatioLimited"),
    ("seed_ratio_mode", "seedRatioMode"),
    ("seeder_count", "seederCount"),
    ("session_count", "sessionCount"),
    ("session_id", "session-id"),
    ("size_bytes", "size-bytes"),
    ("size_units", "size-units"),
    ("size_when_done", "sizeWhenDone"),
    ("speed_bytes", "speed-bytes"),
    ("speed_limit_down", "speed-limit-down"),
    ("speed_limit_down_enabled", "speed-limit-down-enabled"),
    ("speed_limit_up", "speed-limit-up"),
    ("speed_limit_up_enabled", "speed-limit-up-enabled"),
    ("speed_units", "speed-units"),
    ("start_added_torrents", "start-added-torrents"),
    ("start_date", "startDate"),
    ("tcp_enabled", "tcp-enabled"),
    ("torrent_added", "torrent-added"),
    ("torrent_count", "torrentCount"),
    ("torrent_duplicate", "torrent-duplicate"),
    ("torrent_file", "torrentFile"),
    ("total_size", "totalSize"),
    ("tracker_list", "trackerList"),
    ("tracker_stats", "trackerStats"),
    ("trash_original_torrent_files", "trash-original-torrent-files"),
    ("upload_limit", "uploadLimit"),
    ("upload_limited", "uploadLimited"),
    ("upload_ratio", "uploadRatio"),
    ("upload_speed", "uploadSpeed"),
    ("uploaded_bytes", "uploadedBytes"),
    ("uploaded_ever", "uploadedEver"),
    ("utp_enabled", "utp-enabled"),
    ("webseeds_sending_to_us", "webseedsSendingToUs"),
];

/// What the older dialect calls a key. `in_torrent`: in an object of `torrent-get`, where one key is written as nowhere else.
pub fn older(key: &str, in_torrent: bool) -> &str {
    if in_torrent && key == "download_dir" {
        return "downloadDir";
    }
    OLDER.binary_search_by_key(&key, |(new, _)| new).map_or(key, |at| OLDER[at].1)
}

/// What a key of the older dialect is called here: `seed-ratio` and `seedRatio` both mean `seed_ratio`.
pub fn newer(key: &str) -> String {
    if key == "cache-size-mb" {
        return "cache_size_mib".to_owned();
    }
    let mut name = String::with_capacity(key.len() + 4);
    let mut was_small = false;
    for letter in key.chars() {
        match letter {
            '-' => name.push('_'),
            _ if letter.is_ascii_uppercase() => {
                if was_small {
                    name.push('_');
                }
                name.push(letter.to_ascii_lowercase());
            }
            _ => name.push(letter),
        }
        was_small = letter.is_ascii_lowercase() || letter.is_ascii_digit();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        assert!(OLDER.is_sorted_by_key(|(new, _)| new));
        for (new, old) in OLDER {
            assert_eq!(newer(old), *new);
            assert_eq!(newer(new), *new);
            assert_eq!(older(new, false), *old);
        }
        assert_eq!(
            (older("download_dir", false), older("download_dir", true)),
            ("download-dir", "downloadDir")
        );
        // The same everywhere.
        for key in ["id", "eta", "sequential_download", "begin_piece", "webseeds_ex"] {
            assert_eq!((older(key, true), newer(key)), (key, key.to_owned()));
        }
        assert_eq!(newer("torrent-set-location"), "torrent_set_location");
        assert_eq!(newer("trackerAdd"), "tracker_add");
    }
}
