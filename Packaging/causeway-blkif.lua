-- Shows what `causeway trace DOMAIN/DISK -w FILE` writes: requests of Xen's block protocol, and their answers.
--   wireshark -X lua_script:causeway-blkif.lua trace.pcapng
-- The layout stands in Sources/Drivers/Block/BlockTrace/BlockTraceEvent.swift.

local blkif = Proto("blkif", "Xen block protocol")

local kinds = { [1] = "request", [2] = "answer" }
local operations = {
    [0] = "read", [1] = "write", [2] = "barrier", [3] = "flush", [4] = "reserved", [5] = "discard", [6] = "indirect",
}
local statuses = { [0] = "okay", [-1] = "error", [-2] = "unsupported" }

local f = blkif.fields
f.version = ProtoField.uint8("blkif.version", "Version of this layout")
f.kind = ProtoField.uint8("blkif.kind", "Kind", base.DEC, kinds)
f.queue = ProtoField.uint16("blkif.queue", "Queue")
f.operation = ProtoField.uint8("blkif.operation", "Operation", base.DEC, operations)
f.indirect = ProtoField.bool("blkif.indirect", "Indirect", 8, nil, 0x01)
f.status = ProtoField.int16("blkif.status", "Status", base.DEC, statuses)
f.id = ProtoField.uint64("blkif.id", "Id")
f.sector = ProtoField.uint64("blkif.sector", "First sector")
f.sectors = ProtoField.uint64("blkif.sectors", "Sectors")
f.time = ProtoField.uint64("blkif.time", "Nanoseconds since the request was taken")
f.segments = ProtoField.uint32("blkif.segments", "Segments")
f.segment = ProtoField.none("blkif.segment", "Segment")
f.page = ProtoField.uint32("blkif.page", "Grant")
f.first = ProtoField.uint8("blkif.first", "First sector in the page")
f.last = ProtoField.uint8("blkif.last", "Last sector in the page")

function blkif.dissector(buffer, packet, root)
    if buffer:len() < 48 or buffer(0, 1):uint() ~= 1 then return 0 end
    packet.cols.protocol = "BLKIF"
    local kind, operation, status = buffer(1, 1):uint(), buffer(4, 1):uint(), buffer(6, 2):le_int()
    local tree = root:add(blkif, buffer())
    tree:add(f.version, buffer(0, 1))
    tree:add(f.kind, buffer(1, 1))
    tree:add_le(f.queue, buffer(2, 2))
    tree:add(f.operation, buffer(4, 1))
    tree:add(f.indirect, buffer(5, 1))
    if kind == 2 then tree:add_le(f.status, buffer(6, 2)) end
    tree:add_le(f.id, buffer(8, 8))
    tree:add_le(f.sector, buffer(16, 8))
    tree:add_le(f.sectors, buffer(24, 8))
    if kind == 2 then tree:add_le(f.time, buffer(32, 8)) end
    tree:add_le(f.segments, buffer(40, 4))
    local place = 48
    for _ = 1, buffer(44, 4):le_uint() do
        if place + 8 > buffer:len() then break end
        local segment = tree:add(f.segment, buffer(place, 8))
        segment:add_le(f.page, buffer(place, 4))
        segment:add(f.first, buffer(place + 4, 1))
        segment:add(f.last, buffer(place + 5, 1))
        place = place + 8
    end
    local name = operations[operation] or string.format("operation %d", operation)
    local text = string.format("%s id %s: %s", kinds[kind] or "?", tostring(buffer(8, 8):le_uint64()), name)
    if operation ~= 3 then
        text = text .. string.format(", %s sectors from %s", tostring(buffer(24, 8):le_uint64()), tostring(buffer(16, 8):le_uint64()))
    end
    if kind == 2 then
        local time = buffer(32, 8):le_uint64():tonumber() / 1000
        text = text .. string.format(", %s, %.1f us", statuses[status] or tostring(status), time)
    end
    packet.cols.info = text
    return buffer:len()
end

-- LINKTYPE_USER0.
DissectorTable.get("wtap_encap"):add(wtap.USER0, blkif)
