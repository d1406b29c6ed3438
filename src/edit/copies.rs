//! Where an ECS document of ours holds one value more than once. ECS asks for `related.*` to repeat what
//! stands elsewhere, and a record's own field stays below `o365.audit` where its spelling may say more than
//! the ECS field does. Whoever drops `source.ip` means the address, so the name of an ECS field stands for
//! the value at each of these places; a name below `related` or `o365.audit` for that field alone.
//!
//! Comes in: the name of a field. Goes out: the names of the others. The table is held against what the
//! normalizer writes by a test over all fixtures, in both profiles.

use super::path::FieldPath;

/// The same thing by several names.
struct Group {
    /// The names that stand for it.
    names: &'static [&'static str],
    /// Everywhere that it stands: lists of places, because one thing may stand where another does.
    places: &'static [&'static [&'static str]],
}

/// The address that a request came from. `DeviceDisplayName` of SharePoint is one at times.
const SOURCE: &[&str] = &[
    "source.ip",
    "source.address",
    "source.domain",
    "client.ip",
    "client.address",
    "client.domain",
    "related.ip",
    "related.hosts",
    "o365.audit.EndpointMetaData",
    "o365.audit.ClientIP",
    "o365.audit.ClientIPAddress",
    "o365.audit.ActorIpAddress",
    "o365.audit.IpAddress",
    "o365.audit.IPAddress",
    "o365.audit.DeviceDisplayName",
    "o365.audit.UserIp",
];

/// Who did it, in the fields that speak of nobody else.
pub(super) const ACTOR: &[&str] = &[
    "user.id",
    "user.name",
    "user.email",
    "user.full_name",
    "o365.audit.UserId",
    "o365.audit.UserKey",
    "o365.audit.UserUPN",
    "o365.audit.UserPrincipalName",
    "o365.audit.UserDisplayName",
    "o365.audit.UserEmail",
    "o365.audit.UserName",
    "o365.audit.LogonUserSid",
    "o365.audit.LogonUserDisplayName",
    "o365.audit.Actor.ID",
    "o365.audit.ActorUserId",
    "o365.audit.ActorYammerUserId",
    "o365.audit.ActorName",
];

/// Everybody of whom a record may speak, the actor included: who does something to himself is the target too, and who
/// sends a mail its sender.
pub(super) const PEOPLE: &[&str] = &[
    "destination.user.email",
    "destination.user.id",
    "email.bcc.address",
    "email.cc.address",
    "email.from.address",
    "email.sender.address",
    "email.to.address",
    "file.owner",
    "related.user",
    // Profile `elastic`: what an alert is about.
    "rule.description",
    "source.user.email",
    "user.changes.email",
    "user.target.email",
    "user.target.full_name",
    "user.target.id",
    "user.target.name",
    "o365.audit.AlertEntityId",
    "o365.audit.AppPoolOwner",
    "o365.audit.AssertingApplicationOwner",
    "o365.audit.AttendeeInfo",
    "o365.audit.Attendees",
    "o365.audit.CreatedBy",
    "o365.audit.Data.flattened.Entities.MailboxPrimaryAddress",
    "o365.audit.Data.flattened.Entities.P1Sender",
    "o365.audit.Data.flattened.Entities.P2Sender",
    "o365.audit.Data.flattened.Entities.Recipient",
    "o365.audit.Data.flattened.Entities.Upn",
    "o365.audit.Data.flattened.f3u",
    "o365.audit.Data.flattened.rcpt",
    "o365.audit.Data.flattened.suid",
    "o365.audit.Data.flattened.trc",
    "o365.audit.Data.flattened.tsd",
    "o365.audit.Data.flattened.user",
    "o365.audit.EventValue",
    "o365.audit.ExchangeDetails.From",
    "o365.audit.ExchangeDetails.Recipients",
    "o365.audit.ExchangeMetaData.BCC",
    "o365.audit.ExchangeMetaData.CC",
    "o365.audit.ExchangeMetaData.From",
    "o365.audit.ExchangeMetaData.To",
    "o365.audit.FileOwner",
    "o365.audit.Item.CC",
    "o365.audit.Item.From",
    "o365.audit.Item.Sender",
    "o365.audit.Item.To",
    "o365.audit.MailboxOwnerMasterAccountSid",
    "o365.audit.MailboxOwnerSid",
    "o365.audit.MailboxOwnerUPN",
    "o365.audit.Members.DisplayName",
    "o365.audit.Members.UPN",
    "o365.audit.MembershipInformation.MemberEmail",
    "o365.audit.Object1Name",
    "o365.audit.ObjectId",
    "o365.audit.Organizer.UPN",
    "o365.audit.Owner",
    "o365.audit.P1Sender",
    "o365.audit.P2Sender",
    "o365.audit.Parameters.AddToRecipients",
    "o365.audit.Parameters.BlindCopyTo",
    "o365.audit.Parameters.CopyTo",
    "o365.audit.Parameters.ForwardAsAttachmentTo",
    "o365.audit.Parameters.ForwardTo",
    "o365.audit.Parameters.ForwardingAddress",
    "o365.audit.Parameters.ForwardingSmtpAddress",
    "o365.audit.Parameters.From",
    "o365.audit.Parameters.GrantSendOnBehalfTo",
    "o365.audit.Parameters.Identity",
    "o365.audit.Parameters.Mailbox",
    "o365.audit.Parameters.Member",
    "o365.audit.Parameters.Members",
    "o365.audit.Parameters.MicrosoftOnlineServicesID",
    "o365.audit.Parameters.Owner",
    "o365.audit.Parameters.RedirectMessageTo",
    "o365.audit.Parameters.RedirectTo",
    "o365.audit.Parameters.Trustee",
    "o365.audit.Parameters.User",
    "o365.audit.ParticipantInfo.ParticipatingUsers",
    "o365.audit.ProtectionOwner",
    "o365.audit.Receivers",
    "o365.audit.Recipient",
    "o365.audit.RecipientUPN",
    "o365.audit.Recipients",
    "o365.audit.SendAsUserSmtp",
    "o365.audit.SendAsUserMailboxGuid",
    "o365.audit.SendOnBehalfOfUserSmtp",
    "o365.audit.SendOnBehalfOfUserMailboxGuid",
    "o365.audit.Sender",
    "o365.audit.SenderAddress",
    "o365.audit.SenderEntity.Address",
    "o365.audit.SensitivityLabelEventData.SensitivityLabelOwnerEmail",
    "o365.audit.SharePointMetaData.DocumentSharer",
    "o365.audit.SharePointMetaData.FileOwner",
    "o365.audit.SharePointMetaData.From",
    "o365.audit.SharingInformation.RecipientEmail",
    "o365.audit.SharingInformation.RecipientName",
    "o365.audit.SharingRecipient",
    "o365.audit.SubmittedBy",
    "o365.audit.Submitter",
    "o365.audit.Target.ID",
    "o365.audit.TargetUser",
    "o365.audit.TargetUserId",
    "o365.audit.TargetUserOrGroupName",
    "o365.audit.TargetUserPrincipalName",
    "o365.audit.TargetYammerUserId",
    "o365.audit.UserInformation.UsersAdded",
    "o365.audit.UserInformation.UsersRemoved",
];

/// The device that something was seen on. Profile `elastic` gives the tenant as the host.
const HOST: &[&str] = &[
    "host.id",
    "host.name",
    "related.hosts",
    "o365.audit.DeviceId",
    "o365.audit.DeviceName",
    "o365.audit.EndpointMetaData.DeviceName",
];

const SERVER: &[&str] = &[
    "server.ip",
    "server.address",
    "server.domain",
    "destination.ip",
    "related.ip",
    "related.hosts",
    "o365.audit.OriginatingServer",
];

const TENANT_ID: &[&str] = &[
    "organization.id",
    "cloud.account.id",
    "host.id",
    "o365.audit.ActorContextId",
    "o365.audit.Data.flattened.tid",
    "o365.audit.OrganizationId",
    "o365.audit.ParticipantInfo.ParticipatingTenantIds",
    "o365.audit.ResourceTenantId",
    "o365.audit.TargetContextId",
    "o365.audit.TenantId",
    "o365.audit.TokenTenantId",
];

const TENANT_NAME: &[&str] = &[
    "organization.name",
    "cloud.account.name",
    "host.name",
    "related.hosts",
    "o365.audit.OrganizationName",
    "o365.audit.TenantName",
];

const GROUPS: &[Group] = &[
    Group {
        names: &[
            "source",
            "source.ip",
            "source.address",
            "source.domain",
            "client",
            "client.ip",
            "client.address",
            "client.domain",
        ],
        places: &[SOURCE],
    },
    Group { names: &["user", "user.id", "user.name", "user.email", "user.full_name"], places: &[ACTOR, PEOPLE] },
    // Whoever takes away the others keeps who acted.
    Group {
        names: &[
            "destination.user",
            "destination.user.email",
            "destination.user.id",
            "email",
            "email.bcc.address",
            "email.cc.address",
            "email.from.address",
            "email.sender.address",
            "email.to.address",
            "file.owner",
            "source.user",
            "source.user.email",
            "user.changes",
            "user.changes.email",
            "user.target",
            "user.target.email",
            "user.target.full_name",
            "user.target.id",
            "user.target.name",
        ],
        places: &[PEOPLE],
    },
    Group { names: &["host", "host.id", "host.name"], places: &[HOST] },
    Group { names: &["server", "server.ip", "server.address", "server.domain", "destination.ip"], places: &[SERVER] },
    Group { names: &["organization.id", "cloud.account.id"], places: &[TENANT_ID] },
    Group { names: &["organization.name", "cloud.account.name"], places: &[TENANT_NAME] },
    Group { names: &["organization", "cloud", "cloud.account"], places: &[TENANT_ID, TENANT_NAME] },
    Group { names: &["event.provider", "cloud.service.name"], places: &[&["event.provider", "cloud.service.name"]] },
];

/// Every place of the value that `path` names; nothing for a field that stands for itself alone.
pub(super) fn of(path: &FieldPath) -> impl Iterator<Item = &'static str> {
    let group = GROUPS.iter().find(|group| group.names.iter().any(|name| path.is(name)));
    group.into_iter().flat_map(|group| group.places).flat_map(|places| places.iter().copied())
}
