-- SPDX-License-Identifier: MIT
-- For wrk: one after the other, most of them quick, some that wait for timers and for other tasks.
local paths = {
  "/", "/lock", "/channel", "/", "/join", "/", "/lock", "/channel", "/", "/joinset",
}
local requests, at = {}, 0

function init()
  for index, path in ipairs(paths) do
    requests[index] = wrk.format("GET", path)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end
