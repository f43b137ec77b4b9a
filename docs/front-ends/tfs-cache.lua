-- Purging all that nginx's cache holds of a picture, in one step, whatever its size: nginx has no tags, and Debian's
-- libnginx-mod-http-cache-purge knows whole keys only. So every cache key begins with the time at which its picture was
-- purged last. A purge changes that time; what was kept, and what is being fetched at that moment, has another key then,
-- nobody asks for it any more, and the cache manager removes it as inactive.
--
-- The times are in a shared dictionary, and in a journal, because what lies in the cache survives a restart. A time is
-- forgotten when nginx has run for `forget_s` since it was noted or read: at twice the cache's `inactive` nothing is left
-- by then of what it hides. Whenever something is not known (no journal, a damaged one, a full dictionary), nothing is
-- taken from the cache that was kept before.
--
-- Cost: a look-up a request; 130 bytes of the dictionary a purge that is remembered; a purge is one line, written through
-- to the disk before it is answered, so it stops its worker for as long as one fdatasync.

local ffi = require "ffi"
ffi.cdef [[
  int fileno(void *stream);
  int fdatasync(int fd);
  unsigned int umask(unsigned int mask);
]]

local M = {}
local memory, journal, forget_s, shorten_s
-- Whether the time of the last purge of everything is in the journal.
local all_is_noted = false

-- Neither is 18 characters long, as names are.
local ALL, LOCK = "*", "lock"
local NAME = "^T%d[%w._-]+$"
local NAME_CHARS = 18
local LOCK_S_MAX = 5
local SHORTEN_S_DEFAULT = 24 * 3600

local function now_ms()
  return math.floor(ngx.now() * 1000)
end

-- Later than the one before, also when the clock went back.
local function next_time(key)
  return math.max(now_ms(), (memory:get(key) or 0) + 1)
end

local function locked(work, ...)
  local waited = 0
  while true do
    local taken, busy = memory:safe_add(LOCK, true, LOCK_S_MAX)
    -- A full dictionary has no room for a lock either; what is about to happen makes some.
    if taken or busy == "no memory" then break end
    if waited > 2 * LOCK_S_MAX then return nil, "the journal is busy" end
    ngx.sleep(0.002)
    waited = waited + 0.002
  end
  local ok, done, why = pcall(work, ...)
  memory:delete(LOCK)
  if not ok then return nil, done end
  return done, why
end

local function write_through(path, mode, text)
  -- For nobody else: nginx itself takes no care of that.
  local before = ffi.C.umask(tonumber("077", 8))
  local file, why = io.open(path, mode)
  ffi.C.umask(before)
  if not file then return nil, why end
  local written, failed = file:write(text)
  local synced = written and file:flush() and ffi.C.fdatasync(ffi.C.fileno(file)) == 0
  file:close()
  if not synced then return nil, failed or (path .. " could not be written through") end
  return true
end

-- The line break before it: a line that was cut off by a crash does not take this one along.
local function line_of(key, time)
  return string.format("\n%s %.0f;\n", key, time)
end

local function each_line(use)
  local file, why = io.open(journal, "r")
  if not file then return nil, why end
  for line in file:lines() do
    local key, time = line:match("^(%S+) (%d+);$")
    if key then use(key, tonumber(time)) end
  end
  file:close()
  return true
end

-- Nothing that was kept before counts any more.
local function hide_all()
  local time = next_time(ALL)
  memory:flush_all()
  memory:flush_expired()
  memory:set(ALL, time)
  -- The lock was let go of with all the rest.
  memory:safe_add(LOCK, true, LOCK_S_MAX)
  return write_through(journal, "w", line_of(ALL, time))
end

local function hide(name)
  local time = next_time(name)
  local kept, why = memory:safe_set(name, time, forget_s)
  if not kept then
    ngx.log(ngx.ERR, "tfs: no room to remember a purge (", why, "): the whole cache is passed over from now on")
    return hide_all()
  end
  return write_through(journal, "a", line_of(name, time))
end

-- Lines of what was forgotten, or purged again, go.
local function shorten()
  memory:flush_expired()
  local kept, seen = {}, {}
  local read, why = each_line(function(key, time)
    if memory:get(key) ~= time or seen[key] then return end
    seen[key] = true
    kept[#kept + 1] = line_of(key, time)
  end)
  if not read then return nil, why end
  local done
  done, why = write_through(journal .. ".new", "w", table.concat(kept))
  if not done then return nil, why end
  return os.rename(journal .. ".new", journal)
end

-- For init_by_lua: before there are workers, and again when nginx is told to reload.
-- settings: dictionary, journal (its directory belongs to the user of the workers), forget_s, shorten_s (how often what
-- was forgotten leaves the journal; a day when absent)
function M.open(settings)
  memory, journal, forget_s = ngx.shared[settings.dictionary], settings.journal, settings.forget_s
  shorten_s = settings.shorten_s or SHORTEN_S_DEFAULT
  local has_all, is_full = memory:get(ALL) ~= nil, false
  local read, why = each_line(function(key, time)
    if (memory:get(key) or 0) >= time then return end
    if key == ALL then
      has_all = true
      memory:set(ALL, time)
    elseif not memory:safe_set(key, time, forget_s) then
      is_full = true
    end
  end)
  all_is_noted = read and has_all and not is_full
  if all_is_noted then return end
  why = why or (is_full and "there are more purges than the dictionary has room for") or "the journal is not whole"
  ngx.log(ngx.WARN, "tfs: ", why, ": nothing is taken from the cache that was kept")
  memory:set(ALL, next_time(ALL))
end

-- For init_worker_by_lua.
function M.open_worker()
  if ngx.worker.id() ~= 0 then return end
  local function note(work)
    return function(premature)
      if premature then return end
      local done, why = locked(work)
      if not done then ngx.log(ngx.ERR, "tfs: the journal of purges: ", why) end
    end
  end
  if not all_is_noted then
    ngx.timer.at(0, note(function() return write_through(journal, "a", line_of(ALL, memory:get(ALL))) end))
  end
  ngx.timer.every(shorten_s, note(shorten))
end

local function say(status, text)
  ngx.status = status
  ngx.header["Content-Type"] = "text/plain"
  ngx.header["Cache-Control"] = "no-store"
  ngx.say(text)
  return ngx.exit(status)
end

-- PURGE /images/NAME; PURGE /images/* for everything.
function M.purge()
  if ngx.var.may_purge ~= "1" then return say(403, "this address may not purge") end
  local name = ngx.var.uri:match("^/images/([^/]+)$")
  local done, why
  if name == "*" then
    done, why = locked(hide_all)
  elseif name and #name == NAME_CHARS and name:find(NAME) then
    done, why = locked(hide, name)
  else
    return say(400, "PURGE /images/ and the 18 characters of a name")
  end
  if not done then
    ngx.log(ngx.ERR, "tfs: purge of ", name, ": ", why)
    return say(500, "purged, but not kept over a restart: ask again")
  end
  return say(200, "purged")
end

-- Options in one order: their order says nothing.
local function canonical(query)
  if not query then return "" end
  local options = {}
  for option in query:gmatch("[^&]+") do options[#options + 1] = option end
  table.sort(options)
  return table.concat(options, "&")
end

local DECISIVE = { ["image/avif"] = true, ["image/webp"] = true, ["image/jpeg"] = true, ["image/png"] = true, ["image/gif"] = true }
local ANY = { ["image/*"] = true, ["*/*"] = true }

-- One spelling for all clients to whom the gateway gives the same. Whoever weighs or excludes what it decides by keeps
-- a header of its own, and with it copies of its own: always right, and rare.
local function accept_class(header)
  if type(header) == "table" then header = table.concat(header, ", ") end
  if not header or header:match("^%s*$") then return "*/*" end
  local named, any = {}, false
  for range in header:lower():gmatch("[^,]+") do
    local kind, parameters = range:match("^%s*([%w*+.-]+/[%w*+.-]+)%s*(.-)%s*$")
    if not kind then return header end
    if DECISIVE[kind] then
      if parameters ~= "" then return header end
      named[kind] = true
    elseif ANY[kind] then
      local weight = parameters == "" and 1 or tonumber(parameters:match("^;%s*q=([01]%.?%d*)$"))
      if not weight or weight <= 0 or weight > 1 then return header end
      any = true
    end
  end
  if not any then return header end
  return (named["image/avif"] and "image/avif," or "") .. (named["image/webp"] and "image/webp," or "") .. "*/*"
end

local ORIGINAL = "^%.?%w*$"

-- For rewrite_by_lua in the location of pictures: $tfs_name is the name, $tfs_tail what follows it.
function M.prepare()
  local method = ngx.req.get_method()
  if method == "PURGE" then return M.purge() end
  -- Without a time for all, everything is being purged at this moment.
  local all = memory:get(ALL) or now_ms()
  ngx.var.tfs_purged = string.format("%.0f.%.0f", all, memory:get(ngx.var.tfs_name) or 0)
  ngx.req.set_header("Accept", accept_class(ngx.req.get_headers().accept))
  local options = canonical(ngx.var.args)
  -- From now on nginx asks upstream for what is in the key, and not for what the client spelled.
  ngx.req.set_uri_args(options)
  if method == "OPTIONS" then return end
  if options == "" and ngx.var.tfs_tail:find(ORIGINAL) then return ngx.exec("@original") end
  -- Or perhaps so: there are other spellings of "sig".
  if options:find("sig=", 1, true) or options:find("%", 1, true) then return ngx.exec("@signed") end
end

-- For rewrite_by_lua where nothing is kept.
function M.prepare_other()
  if ngx.req.get_method() == "PURGE" then return M.purge() end
end

return M
