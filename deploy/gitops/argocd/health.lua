-- Health of a VoiceModel for Argo CD, from its conditions. Without it every VoiceModel counts as healthy.
--
-- Degraded    a version went back, or nothing serves the voice: a person is needed
-- Suspended   it waits for a person: a pause, an approval, a hold
-- Progressing a version is on its way, its watch included
-- Healthy     what Git asks for was watched and confirmed

local waits_for_a_person = {
  Paused = true,
  AwaitingApproval = true,
  ContinuityHold = true,
  CanaryHold = true,
}

local function say(status, message)
  return { status = status, message = message }
end

local status = obj.status
if status == nil or status.conditions == nil then
  return say("Progressing", "the operator has not seen it yet")
end
if status.observedGeneration ~= obj.metadata.generation then
  return say("Progressing", "the operator has not seen the latest change yet")
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end

local function is(kind, value)
  return conditions[kind] ~= nil and conditions[kind].status == value
end

if is("Stalled", "True") then
  return say("Degraded", conditions.Stalled.message)
end
if is("Reconciling", "True") then
  local reason, message = conditions.Reconciling.reason, conditions.Reconciling.message
  if waits_for_a_person[reason] then
    return say("Suspended", message)
  end
  return say("Progressing", message)
end
if is("Promoted", "False") and conditions.Promoted.reason == "RolledBack" then
  return say("Degraded", conditions.Promoted.message)
end
if is("Ready", "False") then
  return say("Degraded", conditions.Ready.message)
end
if is("Ready", "True") and is("Promoted", "True") then
  return say("Healthy", conditions.Ready.message)
end
return say("Progressing", status.message or "")
