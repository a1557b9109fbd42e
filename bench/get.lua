-- Plain GETs for wrk, with the results that report.lua prints.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("%d %d %d\n",
    summary.requests / (summary.duration / 1e6),
    latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
