-- A suspicion with its spans on this clock.
local function suspect_row(key)
  local row = fields(key)
  if not row.boot_id then return nil end
  return {'boot_id', row.boot_id, 'reason', row.reason, 'evidence', row.evidence,
    'since_age_s', string.format('%.3f', (NOW_MS - num(row.since_ms)) / 1000),
    'confirm_in_s', string.format('%.3f', (num(row.confirm_at_ms) - NOW_MS) / 1000)}
end
