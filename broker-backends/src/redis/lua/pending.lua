-- Arguments: the user, most offsets.
-- Returns the epoch and the offsets.
local record = read(ARGV[1]) or new('')
local offsets = record[OFFSETS]
local listed = {}
for index = 1, math.min(#offsets, tonumber(ARGV[2])) do
  listed[index] = offsets[index]
end
return { record[EPOCH], listed }
