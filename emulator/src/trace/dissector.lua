-- SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
-- Behind the tables: what goes over packets with them. Runs in Wireshark 4.0 (Lua 5.2) and later.

local fwctl = Proto("fwctl", "Firmware command interface (fwctl-emu)")

-- Elements of an array that are shown.
local MAX_ELEMENTS = 64
-- Where ACCESS_REG has the register, and MNVDA an item's type and its data.
local REGISTER, ITEM_TYPE, ITEM_DATA = 16, 20, 28

local all = {}
local function declare(abbr, name, kind, display, values)
    local f = ProtoField.new(name, "fwctl." .. abbr, kind, values, display)
    all[#all + 1] = f
    return f
end

local u8, u16, u24, u32, u64 = ftypes.UINT8, ftypes.UINT16, ftypes.UINT24, ftypes.UINT32, ftypes.UINT64
local H = {
    kind = declare("kind", "Kind", u8, base.DEC, T.kinds),
    func = declare("function", "Function", u8, base.DEC),
    via = declare("via", "Came by", u8, base.HEX, T.vias),
    slot = declare("slot", "Slot", u8, base.DEC),
    scope = declare("scope", "Scope", u8, base.DEC, T.scopes),
    delivery = declare("delivery", "Delivery", u8, base.HEX, T.deliveries),
    why = declare("refused", "Not executed", u8, base.DEC, T.refusals),
    unanswered = declare("unanswered", "Not answered", u8, base.DEC, T.whys),
    waited = declare("waited", "Taken to known as unanswered (ns)", u64, base.DEC),
    took = declare("took", "Taken to answered (ns)", u64, base.DEC),
    own = declare("own", "Own time of the emulator (ns)", u64, base.DEC),
    opcode = declare("opcode", "Opcode", u16, base.HEX, T.opcodes),
    uid = declare("uid", "User context", u16, base.DEC),
    op_mod = declare("op_mod", "Opcode modifier", u16, base.HEX),
    status = declare("status", "Status", u8, base.HEX, T.statuses),
    syndrome = declare("syndrome", "Syndrome", u32, base.HEX, T.syndromes),
    register = declare("register", "Register", u16, base.HEX, T.registers),
    item = declare("item", "Configuration item", u32, base.HEX),
    inbox = declare("inbox", "Inbox", ftypes.BYTES),
    outbox = declare("outbox", "Outbox", ftypes.BYTES),
    event = declare("event", "Event", u8, base.HEX, T.events),
    sub_type = declare("sub_type", "Sub-type", u8, base.HEX),
    lost = declare("lost", "Lost", u8, base.DEC),
    vector = declare("vector", "Interrupt vector", u16, base.DEC),
    offset = declare("offset", "Offset", u32, base.HEX),
    page = declare("page", "UAR page", u32, base.DEC),
    space = declare("space", "Space", u16, base.HEX, T.spaces),
    address = declare("address", "Address", u32, base.HEX),
    value = declare("value", "Written", u32, base.HEX),
    after = declare("then", "Afterwards", u32, base.HEX),
    reset = declare("reset", "Reset", u8, base.DEC, T.resets),
    generation = declare("generation", "Generation", u64, base.DEC),
    missing = declare("missing", "Entries missing", u64, base.DEC),
    text = declare("text", "Text", ftypes.STRING),
    data = declare("data", "Data", ftypes.BYTES),
}

-- Fields of the tables: name, offset, width, count, nested layout, values, counter, variants; the
-- ProtoField comes behind them.
local NAME, OFFSET, WIDTH, COUNT, NESTED, VALUES, COUNTER, VARIANTS, FIELD = 1, 2, 3, 4, 5, 6, 7, 8, 9
for _, layout in ipairs(T.layouts) do
    local seen = {}
    for _, f in ipairs(layout.fields) do
        local abbr = layout.name .. "." .. f[NAME]:gsub("[^%w_.]", "_")
        while seen[abbr] do abbr = abbr .. "_" end
        seen[abbr] = true
        if f[NESTED] then
            f[FIELD] = declare(abbr, f[NAME], ftypes.NONE)
        elseif f[WIDTH] > 64 then
            f[FIELD] = declare(abbr, f[NAME], ftypes.BYTES)
        else
            local w, values = f[WIDTH], f[VALUES] and T.enums[f[VALUES]]
            local kind = w <= 8 and u8 or w <= 16 and u16 or w <= 24 and u24 or w <= 32 and u32 or u64
            -- Names of 64-bit values have a type of their own.
            f[FIELD] = declare(abbr, f[NAME], kind, base.HEX, w <= 32 and values or nil)
        end
    end
    layout.by_name = {}
    for _, f in ipairs(layout.fields) do layout.by_name[f[NAME]] = f end
end
fwctl.fields = all

-- The bytes that hold these bits, and their value; nothing if they are not all there.
local function bits(buf, offset, width)
    local from, pos = math.floor(offset / 8), offset % 8
    local len = math.ceil((pos + width) / 8)
    if from + len > buf:len() then return end
    local range = buf:range(from, len)
    if width > 64 then return range end
    return range, range:bitfield(pos, width)
end

local function plain(v)
    return type(v) == "number" and v or v:tonumber()
end

-- The place of a dotted path in a layout: offset and width.
local function place(layout, path)
    local offset = 0
    while layout do
        local f = layout.by_name[path]
        if f then return offset + f[OFFSET], f[WIDTH] end
        local head, rest = path:match("^([^.]+)%.(.+)$")
        f = head and layout.by_name[head]
        if not f then return end
        offset, path, layout = offset + f[OFFSET], rest, f[NESTED] and T.layouts[f[NESTED]]
    end
end

-- Which layout lies at a field with variants.
local function chosen(buf, layout, at, f, inbox)
    local v = f[VARIANTS]
    local from, where, path = buf, at, v.selector:match("^in%.(.+)$")
    if path then
        if not inbox then return end
        from, where, layout = inbox.buf, 0, inbox.layout
    end
    local offset, width = place(layout, path or v.selector)
    if not offset then return end
    local range, value = bits(from, where + offset, width)
    if not range then return end
    return v.arms[math.floor(plain(value) / 2 ^ v.shift)]
end

local fill

local function one(tree, buf, layout, at, f, n, inbox)
    local offset = at + f[OFFSET] + n * f[WIDTH]
    local first = math.floor(offset / 8)
    if first >= buf:len() then return end
    local label = f[COUNT] == 1 and f[NAME] or ("%s[%d]"):format(f[NAME], n)
    local nested = f[NESTED]
    if f[VARIANTS] then nested = chosen(buf, layout, at, f, inbox) end
    if nested then
        local len = math.min(math.ceil(f[WIDTH] / 8), buf:len() - first)
        -- A field that holds nothing when nothing is chosen has no place of its own.
        local item
        if f[NESTED] then
            item = tree:add(f[FIELD], buf:range(first, len))
            item:set_text(label .. ": " .. T.layouts[nested].name)
        else
            item = tree:add(buf:range(first, len), label .. ": " .. T.layouts[nested].name)
        end
        fill(item, buf, T.layouts[nested], offset, inbox)
        return true
    end
    if f[NESTED] then return end
    local range, value = bits(buf, offset, f[WIDTH])
    if not range then return end
    local item
    if value == nil then item = tree:add(f[FIELD], range) else item = tree:add(f[FIELD], range, value) end
    if f[COUNT] ~= 1 then item:prepend_text(("[%d] "):format(n)) end
    return true
end

-- Every field of a layout that begins at bit `at` of `buf`, as far as there are bytes.
fill = function(tree, buf, layout, at, inbox)
    for _, f in ipairs(layout.fields) do
        local count = f[COUNT]
        if count ~= 1 then
            local used = math.huge
            if f[COUNTER] then
                local offset, width = place(layout, f[COUNTER])
                local range, value
                if offset then range, value = bits(buf, at + offset, width) end
                if range then used = plain(value) end
            end
            count = math.min(count == 0 and math.huge or count, used, MAX_ELEMENTS)
        end
        for n = 0, count - 1 do
            if not one(tree, buf, layout, at, f, n, inbox) or f[VARIANTS] then break end
        end
    end
end

local function message(tree, field, title, buf, layout, inbox)
    local item = tree:add(field, buf)
    item:set_text(("%s (%d bytes)"):format(title, buf:len()))
    if layout then fill(item, buf, T.layouts[layout], 0, inbox) end
    return item
end

local function inner(tree, buf, from, layout)
    if layout and buf:len() > from then
        local part = buf:range(from)
        local item = tree:add(part, T.layouts[layout].name)
        fill(item, part, T.layouts[layout], 0)
    end
end

-- The register or the configuration item in an ACCESS_REG, and where it lies.
local function in_register(inbox)
    if inbox:len() < 12 or inbox:range(0, 2):uint() ~= T.access_reg then return end
    local id = inbox:range(10, 2):uint()
    if id == T.mnvda and inbox:len() >= ITEM_TYPE + 4 then
        local class = inbox:range(ITEM_TYPE, 1):uint()
        local index = inbox:range(ITEM_TYPE + 1, 3):uint() % (T.item_index[class] or 0x1000000)
        local item = T.items[class] and T.items[class][index]
        if item then return item, ITEM_DATA end
    end
    return T.register_layouts[id], REGISTER
end

local function header(tree, inbox)
    if inbox:len() < 8 then return "a cut command" end
    local opcode = inbox:range(0, 2)
    tree:add(H.opcode, opcode)
    tree:add(H.uid, inbox:range(2, 2))
    tree:add(H.op_mod, inbox:range(6, 2))
    local name = T.opcodes[opcode:uint()] or ("opcode 0x%x"):format(opcode:uint())
    if opcode:uint() == T.access_reg and inbox:len() >= 12 then
        local id = inbox:range(10, 2)
        tree:add(H.register, id)
        name = name .. " " .. (T.registers[id:uint()] or ("0x%x"):format(id:uint()))
    end
    return name
end

local kinds = {}

function kinds.command(buf, tree)
    if buf:len() < 32 then return end
    local via = buf:range(3, 1):uint()
    tree:add(H.via, buf:range(3, 1))
    if via < 32 then tree:add(H.slot, buf:range(3, 1)) end
    if buf:range(4, 1):uint() ~= 0 then tree:add(H.scope, buf:range(4, 1)) end
    tree:add(H.delivery, buf:range(5, 1))
    tree:add(H.took, buf:range(8, 8))
    tree:add(H.own, buf:range(16, 8))
    local in_len = math.min(buf:range(24, 4):uint(), buf:len() - 32)
    local out_len = math.min(buf:range(28, 4):uint(), buf:len() - 32 - in_len)
    if in_len == 0 then return "no inbox" end
    local inbox = buf:range(32, in_len)
    local said = header(tree, inbox)
    local delivered = buf:range(5, 1):uint() == 0
    local opcode = in_len >= 2 and inbox:range(0, 2):uint()
    local layouts = opcode and T.commands[opcode] or {}
    local register, from = in_register(inbox)
    local item = message(tree, H.inbox, "Inbox", inbox, layouts[1])
    inner(item, inbox, from, register)
    if not delivered then
        return said .. " -> not delivered: " .. (T.deliveries[buf:range(5, 1):uint()] or "?")
    end
    if out_len < 8 then return said end
    local outbox = buf:range(32 + in_len, out_len)
    local status = outbox:range(0, 1):uint()
    tree:add(H.status, outbox:range(0, 1))
    tree:add(H.syndrome, outbox:range(4, 4))
    local here = layouts[1] and { buf = inbox, layout = T.layouts[layouts[1]] }
    -- A refused command's outbox says nothing but that.
    item = message(tree, H.outbox, "Outbox", outbox, status == 0 and layouts[2], here)
    if status == 0 then inner(item, outbox, from, register) end
    return said .. " -> " .. (T.statuses[status] or ("status 0x%x"):format(status))
end

function kinds.event(buf, tree)
    if buf:len() < 8 then return end
    tree:add(H.event, buf:range(4, 1))
    tree:add(H.sub_type, buf:range(5, 1))
    tree:add(H.lost, buf:range(6, 1))
    local event = buf:range(4, 1):uint()
    if buf:len() > 8 then
        local data = buf:range(8)
        local item = tree:add(H.data, data)
        local layout = T.event_data[event]
        if layout then fill(item, data, T.layouts[layout], 0) end
    end
    return "event " .. (T.events[event] or ("0x%x"):format(event))
end

function kinds.interrupt(buf, tree)
    if buf:len() < 6 then return end
    tree:add(H.vector, buf:range(4, 2))
    return "interrupt " .. buf:range(4, 2):uint()
end

function kinds.segment(buf, tree)
    if buf:len() < 9 then return end
    local offset, data = buf:range(4, 4):uint(), buf:range(8)
    tree:add(H.offset, buf:range(4, 4))
    local item = tree:add(H.data, data)
    -- The fields that the written bytes cover.
    for _, f in ipairs(T.layouts[T.segment].fields) do
        local at = f[OFFSET] - offset * 8
        if at >= 0 and f[COUNT] == 1 and not f[NESTED] then
            local range, value = bits(data, at, f[WIDTH])
            if range and value then item:add(f[FIELD], range, value) end
        end
    end
    return ("segment 0x%x"):format(offset)
end

function kinds.doorbell(buf, tree)
    if buf:len() < 13 then return end
    tree:add(H.page, buf:range(4, 4))
    tree:add(H.offset, buf:range(8, 4))
    local offset, data = buf:range(8, 4):uint(), buf:range(12)
    local item = tree:add(H.data, data)
    local layout = T.doorbells[math.min(offset, T.send_doorbell)]
    if not layout then return ("doorbell 0x%x"):format(offset) end
    fill(item, data, T.layouts[layout], 0)
    return T.layouts[layout].name
end

function kinds.gateway(buf, tree)
    if buf:len() < 20 then return end
    local space, address = buf:range(4, 2):uint(), buf:range(8, 4):uint()
    tree:add(H.space, buf:range(4, 2))
    tree:add(H.address, buf:range(8, 4))
    local layout = T.words[space] and T.words[space][address]
    local function word(field, at)
        local item = tree:add(field, buf:range(at, 4))
        if layout then fill(item, buf:range(at, 4), T.layouts[layout], 0) end
    end
    word(H.value, 12)
    if buf:range(6, 1):uint() ~= 0 then word(H.after, 16) end
    return ("gateway %s 0x%x <- 0x%08x"):format(T.spaces[space] or space, address, buf:range(12, 4):uint())
end

function kinds.refused(buf, tree)
    if buf:len() < 8 then return end
    if buf:range(4, 1):uint() ~= 0 then tree:add(H.scope, buf:range(4, 1)) end
    tree:add(H.why, buf:range(5, 1))
    local said = buf:len() > 8 and header(tree, buf:range(8)) or "a command"
    return said .. " was not executed: " .. (T.refusals[buf:range(5, 1):uint()] or "?")
end

function kinds.unanswered(buf, tree)
    if buf:len() < 18 then return end
    local via = buf:range(3, 1):uint()
    tree:add(H.via, buf:range(3, 1))
    if via < 32 then tree:add(H.slot, buf:range(3, 1)) end
    if buf:range(4, 1):uint() ~= 0 then tree:add(H.scope, buf:range(4, 1)) end
    tree:add(H.unanswered, buf:range(5, 1))
    tree:add(H.waited, buf:range(8, 8))
    local inbox = buf:range(16)
    local said = header(tree, inbox)
    local layouts = T.commands[inbox:range(0, 2):uint()] or {}
    local register, from = in_register(inbox)
    local item = message(tree, H.inbox, "Inbox", inbox, layouts[1])
    inner(item, inbox, from, register)
    return said .. " is not answered: " .. (T.whys[buf:range(5, 1):uint()] or "?")
end

function kinds.reset(buf, tree)
    if buf:len() < 16 then return end
    tree:add(H.reset, buf:range(4, 1))
    tree:add(H.generation, buf:range(8, 8))
    return "reset: " .. (T.resets[buf:range(4, 1):uint()] or "?")
end

function kinds.note(buf, tree)
    if buf:len() < 5 then return end
    tree:add(H.text, buf:range(4))
    return buf:range(4):string()
end
kinds.head = kinds.note

function kinds.lost(buf, tree)
    if buf:len() < 16 then return end
    tree:add(H.missing, buf:range(8, 8))
    return "entries are missing"
end

function fwctl.dissector(tvb, pinfo, root)
    pinfo.cols.protocol = "fwctl"
    local tree = root:add(fwctl, tvb())
    local said
    if tvb:len() >= 4 and tvb(0, 1):uint() == T.version then
        local number = tvb(1, 1):uint()
        tree:add(H.kind, tvb(1, 1))
        if tvb(2, 1):uint() ~= 0xff then tree:add(H.func, tvb(2, 1)) end
        local kind = kinds[T.kinds[number]]
        said = kind and kind(tvb:range(), tree)
    end
    if not said then
        said = "not as fwctl-emu writes it, or cut"
        tree:add_expert_info(PI_MALFORMED, PI_ERROR, said)
    end
    pinfo.cols.info = said
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, fwctl)
