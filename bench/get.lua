-- GETs for wrk. Prints requests per second, the 99th percentile of their latency in µs, and errors.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("%d %d %d\n",
    summary.requests / (summary.duration / 1e6),
    latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
