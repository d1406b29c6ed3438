//! The top-level fields of a record that we know by name, and sets of them.
//!
//! Comes in: the name as sent. Goes out: a [`Field`], or nothing: the list of names is open, and one
//! that is not listed is normal. Names are compared exactly, as the schema spells them, also where it
//! spells one in two ways. Adding a field is one line below. Knows nothing of values. Truth: Microsoft's
//! "Office 365 Management Activity API schema" in its versions of 2022 and 2023, the records of
//! activity-api (section 5), and the fields that rules read (ecs-mapping, sections 1 to 8; detections,
//! section 3), of which `EventNameLower`, `EventSourceLower`, `Payload` and `StatusLower` are names of
//! other products' exports.

/// The name as sent: given, or the name of the variant.
macro_rules! as_sent {
    ($name:ident) => {
        stringify!($name)
    };
    ($name:ident $text:literal) => {
        $text
    };
}

macro_rules! fields {
    ($($name:ident $(= $text:literal)?,)*) => {
        /// A top-level field that Microsoft's schema names (Management Activity API schema, "Common
        /// schema" and the schemas of the workloads).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Field { $($name,)* }

        impl Field {
            /// Every field, in the order of their numbers.
            pub const ALL: &'static [Field] = &[$(Field::$name,)*];

            const NAMES: &'static [&'static str] = &[$(as_sent!($name $($text)?),)*];
        }
    };
}

// By ascending bytes of the name as sent.
fields! {
    OdataType = "@odata.type",
    AADAppId,
    AADGroupId,
    Action,
    Actions,
    Activity,
    ActivityDateTime,
    ActivityParameters,
    Actor,
    ActorContextId,
    ActorInfoString,
    ActorIpAddress,
    ActorUserId,
    ActorYammerUserId,
    AddOnGuid,
    AddOnName,
    AddOnType,
    AdditionalActionsAndResults,
    AdditionalInfo,
    AffectedItems,
    AgentId,
    AgentName,
    AlertEntityId,
    AlertId,
    AlertLinks,
    AlertType,
    AlternateStreamId,
    AppAccessContext,
    AppDistributionMode,
    AppId,
    AppName,
    AppRegistrationTenantId,
    AppVersion,
    Application,
    ApplicationDisplayName,
    ApplicationId,
    ApplicationMode,
    ApplicationName,
    ApplicationVersion,
    ApprovalExpiryDateInUTC,
    ApprovalUpdatedDateInUTC,
    ApprovalValidDays,
    Approver,
    ArtifactsShared,
    AssertingApplicationId,
    AssignmentMethod,
    AssociatedAdminUnits,
    AssociatedAdminUnitsNames,
    AttachmentData,
    AttachmentName,
    Attachments,
    Attendees,
    Audit,
    AuthDetails,
    AuthType,
    AuthenticationMethod,
    AuthenticationStatus,
    AuthenticationType,
    AzureADAppId,
    AzureActiveDirectoryEventType,
    BrowserName,
    BrowserVersion,
    BulkComplaintLevel,
    Case,
    CaseId,
    CaseName,
    Category,
    ChannelGuid,
    ChannelName,
    ChannelType,
    ChatName,
    ChatThreadId,
    Client,
    ClientAppId,
    ClientApplication,
    ClientIP,
    ClientIPAddress,
    ClientInfoString,
    ClientMachineName,
    ClientProcessName,
    ClientRegion,
    ClientRequestId,
    ClientVersion,
    CmdletVersion,
    Comments,
    Common,
    CommunicationSubType,
    CommunicationType,
    Connectors,
    ContainerId,
    ContainerType,
    CopilotEventData,
    CopilotLogVersion,
    CopyActivityRunId,
    CorrelationId,
    CreationDate,
    CreationTime,
    CredentialType,
    CrmOrganizationUniqueName,
    CrossMailboxOperation,
    CrossMailboxOperations,
    CustomEvent,
    CustomUniqueId,
    DashboardId,
    DashboardName,
    Data,
    DataCenterSecurityEventType,
    DataClassification,
    DataExportType,
    DataState,
    DataStoreType,
    DataflowName,
    DatasetColumns,
    DatasetId,
    DatasetName,
    Datasets,
    DeepLinkUrl,
    DeeplinkURL,
    DeliveryActionSpaced = "Delivery Action",
    DeliveryAction,
    Description,
    DestFolder,
    DestMailboxId,
    DestMailboxOwnerMasterAccountSid,
    DestMailboxOwnerSid,
    DestMailboxOwnerUPN,
    DestinationFileExtension,
    DestinationFileName,
    DestinationLabel,
    DestinationLocationType,
    DestinationRelativeUrl,
    DestinationSinks,
    DestinationTenantId,
    Detail,
    DetectedDateTime,
    DetectionMethod,
    DetectionTimingType,
    DetectionType,
    DeviceDisplayName,
    DeviceId,
    DeviceName,
    DeviceProperties,
    Directionality,
    DlpAuditEventMetadata,
    EffectiveOrganization,
    ElevationApprovedTime,
    ElevationApprover,
    ElevationDuration,
    ElevationRequestId,
    ElevationRole,
    ElevationTime,
    EmailInfo,
    EndTime,
    EndTimeUtc,
    EndpointMetaData,
    EnforcementMode,
    Entity,
    EntityId,
    EntityName,
    EntityPath,
    EntityType,
    EnvironmentName,
    ErrorCode,
    ErrorMessage,
    ErrorNumber,
    EvaluationTime,
    Event,
    EventData,
    EventDeepLink,
    EventId,
    EventSource,
    EventValue,
    EvidenceFile,
    ExceptionInfo,
    ExchangeDetails,
    ExchangeLocations,
    ExchangeMetaData,
    Exclusions,
    ExportTriggeredAt,
    ExtendedProperties,
    ExternalAccess,
    ExtraProperties,
    FailureType,
    Fields,
    FileData,
    FileExtension,
    FileId,
    FileName,
    FilePath,
    FileSize,
    FileSizeBytes,
    FileSyncBytesCommitted,
    FileType,
    FlowConnectorNames,
    FlowDetailsUrl,
    Folder,
    Folders,
    FormId,
    FormName,
    FormTypes,
    FormsUserTypes,
    GatewayName,
    GenericInfo,
    GeoLocation,
    GroupName,
    HasForeignTenantUsers,
    HasGuestUsers,
    HiddenProperties,
    HighPriorityMediaProcessing,
    HostAppId,
    HostedContents,
    ICalUid,
    Id,
    Identity,
    IncidentId,
    InstanceUrl,
    InterSystemsId,
    InternalLogonType,
    InternetMessageId,
    IntraSystemId,
    IntraSystemsId,
    InvestigationId,
    InvestigationName,
    InvestigationType,
    Invitation,
    Invitee,
    IpAddress,
    IsDocLib,
    IsHiddenList,
    IsJoinedFromLobby,
    IsManagedDevice,
    IsProtected,
    IsProtectedBefore,
    IsRetry,
    IsSoftDelete,
    IsSuccess,
    IsValid,
    IsWorkflow,
    Item,
    ItemDetails,
    ItemId,
    ItemName,
    ItemSize,
    ItemType,
    ItemUrl,
    JitTriggered,
    JobId,
    JobType,
    JoinTime,
    Justification,
    LabelAction,
    LabelAppliedDateTime,
    LabelId,
    LabelName,
    Language,
    LastModifiedBy,
    LastModifiedDate,
    LastModifiedTime,
    LastUpdateTimeUtc,
    LastUpdatedDateTime,
    LatestDeliveryLocationSpaced = "Latest Delivery location",
    LatestDeliveryLocation,
    LeaveTime,
    ListBaseTemplateType,
    ListBaseType,
    ListId,
    ListItemId,
    ListItemUniqueId,
    ListName,
    ListServerTemplate,
    ListTitle,
    ListUrl,
    Location,
    LoginStatus,
    LoginType,
    LogonError,
    LogonType,
    LogonUserDisplayName,
    LogonUserSid,
    MDATPDeviceId,
    MachineDomainInfo,
    MachineId,
    MailboxGuid,
    MailboxOwnerMasterAccountSid,
    MailboxOwnerSid,
    MailboxOwnerUPN,
    MeetingDetailId,
    MeetingURL,
    MemberIds,
    Members,
    MembershipInformation,
    Message,
    MessageID,
    MessageId,
    MessageSizeInBytes,
    MessageTime,
    MessageURLs,
    MessageVersion,
    Messages,
    Modalities,
    ModifiedFields,
    ModifiedObjectResolvedName,
    ModifiedProperties,
    Name,
    NameOfDownloadedZipFile,
    NetworkMessageId,
    NewContainerId,
    NewContainerType,
    NewPlanId,
    NewValue,
    NonPIIParameters,
    NonPiiParameters,
    Object1Id,
    Object1Name,
    Object1Type,
    Object2Id,
    Object2Name,
    Object2Type,
    ObjectDisplayName,
    ObjectId,
    ObjectState,
    ObjectType,
    OldSensitivityLabelId,
    OldValue,
    OnBehalfOfResId,
    Operation,
    OperationCount,
    OperationDetails,
    OperationProperties,
    OperationScope,
    OperationStatus,
    OrgAppPermission,
    OrganizationAdmins,
    OrganizationId,
    OrganizationName,
    OrganizationOwner,
    Organizer,
    OriginalDeliveryLocationSpaced = "Original Delivery location",
    OriginalContainerId,
    OriginalContainerType,
    OriginalDeliveryLocation,
    OriginalPlanId,
    OriginatingDomain,
    OriginatingServer,
    P1Sender,
    P1SenderDomain,
    P2Sender,
    P2SenderDomain,
    PSComputerName,
    PSShowComputerName,
    Parameters,
    ParentArchiveHash,
    ParentMessageId,
    ParticipantInfo,
    ParticipatingSIPDomains,
    Payload,
    PhishConfidenceLevelSpaced = "Phish Confidence Level",
    PhishConfidenceLevel,
    PipelineName,
    PipelineRunId,
    PlanId,
    PlanList,
    Platform,
    Policy,
    PolicyAction,
    PolicyDetails,
    PolicyId,
    PolicyName,
    PowerBIMetadata,
    PreviousFileName,
    PrimaryFieldValue,
    ProcessName,
    ProductVersion,
    ProjectEnabled,
    ProjectId,
    PropertyCollection,
    ProtectionEventData,
    ProtectionOwner,
    ProtectionType,
    PublicFolderLocations,
    Query,
    QueryResults,
    QueryText,
    RMSEncrypted,
    Reason,
    Receivers,
    Recipient,
    RecipientUPN,
    Recipients,
    RecordNumber,
    RecordType,
    ReleaseTo,
    RemovableMediaDeviceAttributes,
    ReportId,
    ReportName,
    RequestId,
    RequestSource,
    RequestType,
    RescanResult,
    RescanVerdict,
    ResourceTenantId,
    ResourceTitle,
    ResourceUrl,
    ResultDescription,
    ResultMessage,
    ResultStatus,
    ResultStatusReason,
    RiskDetail,
    RiskEventType,
    RiskId,
    RiskLevel,
    RiskState,
    RoadmapEnabled,
    RoadmapId,
    RoadmapItemId,
    Roster,
    RowCount,
    RuleId,
    RuleName,
    RunEndTime,
    RunStartTime,
    RunningTime,
    RunspaceId,
    SRPolicyId,
    SRPolicyMatchDetails,
    SRPolicyName,
    SRRuleMatchDetails,
    SaveToSentItems,
    Scope,
    ScopeCountDelivered,
    ScopeCountRequested,
    ScopeList,
    SearchQueryText,
    SecurityComplianceCenterEventType,
    SendAsUserMailboxGuid,
    SendAsUserSmtp,
    SendOnBehalfOfUserMailboxGuid,
    SendOnBehalfOfUserSmtp,
    Sender,
    SenderIP,
    SenderIp,
    SensitiveInfoDetectionIsIncluded,
    SensitiveInfoTypeBucketsData,
    SensitiveInfoTypeData,
    SensitivityLabelEventData,
    SensitivityLabelId,
    SensitivityLabelJustificationText,
    SensitivityLabelOwnerEmail,
    SessionId,
    Severity,
    Sha1,
    Sha256,
    SharePointLocations,
    SharePointMetaData,
    SharepointLocations,
    SharingInformation,
    SharingLinkScope,
    SharingPermission,
    SharingType,
    Site,
    SiteTitle,
    SiteUrl,
    Source,
    SourceApp,
    SourceFileExtension,
    SourceFileName,
    SourceId,
    SourceLabel,
    SourceLocationType,
    SourceName,
    SourceRelativeUrl,
    SourceUserId,
    SourceWorkload,
    StartTime,
    StartTimeUtc,
    State,
    Status,
    Subject,
    SubmissionConfidenceLevel,
    SubmissionContent,
    SubmissionContentType,
    SubmissionId,
    SubmissionNotes,
    SubmissionState,
    SubmissionType,
    SubscriptionId,
    SupportTicketId,
    SwitchState,
    SystemOverrides,
    TabType,
    Target,
    TargetContextId,
    TargetDomain,
    TargetFilePath,
    TargetPrinterName,
    TargetUrl,
    TargetUser,
    TargetUserId,
    TargetUserOrGroupName,
    TargetUserOrGroupType,
    TargetYammerUserId,
    TaskId,
    TaskList,
    TeamGuid,
    TeamName,
    TeamsMetaData,
    TemplateId,
    TemplateTypeId,
    TenantSettings,
    ThreatsAndDetectionTech,
    TimeOfClick,
    TokenIssuerType,
    TokenObjectId,
    TokenTenantId,
    TokenType,
    UrlCapitals = "URL",
    URLClickAction,
    UndeliveredScope,
    UniqueSharingId,
    Url,
    UrlClickAction,
    UserAction,
    UserAgent,
    UserDisplayName,
    UserDomain,
    UserId,
    UserIp,
    UserKey,
    UserPrincipalName,
    UserRole,
    UserServicePlan,
    UserSharedWith,
    UserType,
    UserUPN,
    UserUpn,
    Username,
    Verdict,
    Version,
    VersionId,
    WebId,
    WorkSpaceName,
    Workload,
    WorkspaceId,
    WorkspaceName,
    WpaUserRole,
    YammerNetworkId,
    EventNameLower = "eventName",
    EventSourceLower = "eventSource",
    RecipientCount = "recipientCount",
    RecipientList = "recipientList",
    StatusLower = "status",
}

/// Slots of the name table. A power of two, sparse (an eighth is filled), so that a look-up is one
/// probe and one comparison.
const SLOTS: usize = 4096;
const NONE: u16 = u16::MAX;

/// The first and the last eight bytes of a name, which may overlap; of a shorter one four, or all of it and nothing.
pub(super) const fn ends(name: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        return (u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64);
    }
    match name {
        [one, two, three] => (u32::from_le_bytes([*one, *two, *three, 0]) as u64, 0),
        [one, two] => (u16::from_le_bytes([*one, *two]) as u64, 0),
        [one] => (*one as u64, 0),
        _ => (0, 0),
    }
}

/// One end is turned, because a name of eight bytes, such as `ClientIP`, is both of its ends and would
/// cancel itself out.
const fn slot(name: &[u8]) -> usize {
    let (first, last) = ends(name);
    let mixed = (first ^ last.rotate_left(7) ^ name.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> (u64::BITS - SLOTS.trailing_zeros())) as usize
}

/// Open addressing, filled when compiling.
static TABLE: [u16; SLOTS] = {
    assert!(Field::COUNT * 4 <= SLOTS, "double SLOTS");
    let mut table = [NONE; SLOTS];
    let mut next = 0;
    while next < Field::COUNT {
        let mut at = slot(Field::NAMES[next].as_bytes());
        while table[at] != NONE {
            at = (at + 1) % SLOTS;
        }
        table[at] = next as u16;
        next += 1;
    }
    table
};

/// The ends of each name.
static ENDS: [(u64, u64); Field::COUNT] = {
    let mut all = [(0, 0); Field::COUNT];
    let mut next = 0;
    while next < Field::COUNT {
        all[next] = ends(Field::NAMES[next].as_bytes());
        next += 1;
    }
    all
};

impl Field {
    /// How many there are.
    pub const COUNT: usize = Field::ALL.len();

    /// The name as sent.
    pub const fn as_str(self) -> &'static str {
        Field::NAMES[self as usize]
    }

    /// The field of this name (unescaped), if we know it.
    pub fn of(name: &[u8]) -> Option<Field> {
        let ends = ends(name);
        let mut at = slot(name);
        while TABLE[at] != NONE {
            let number = usize::from(TABLE[at]);
            // The ends of a name of up to sixteen bytes are all of it.
            let known = Field::NAMES[number].as_bytes();
            if ENDS[number] == ends && known.len() == name.len() && (name.len() <= 16 || known == name) {
                return Some(Field::ALL[number]);
            }
            at = (at + 1) % SLOTS;
        }
        None
    }
}

/// A set of fields, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldSet([u64; FieldSet::WORDS]);

impl FieldSet {
    const WORDS: usize = Field::COUNT.div_ceil(u64::BITS as usize);
    pub const EMPTY: FieldSet = FieldSet([0; FieldSet::WORDS]);

    /// The set of these fields.
    pub const fn of(fields: &[Field]) -> FieldSet {
        let mut set = FieldSet::EMPTY;
        let mut next = 0;
        while next < fields.len() {
            set.insert(fields[next]);
            next += 1;
        }
        set
    }

    pub const fn insert(&mut self, field: Field) {
        self.0[field as usize / 64] |= 1 << (field as usize % 64);
    }

    pub const fn remove(&mut self, field: Field) {
        self.0[field as usize / 64] &= !(1 << (field as usize % 64));
    }

    pub const fn contains(&self, field: Field) -> bool {
        self.0[field as usize / 64] & (1 << (field as usize % 64)) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_its_name_and_by_no_other() {
        let is_listed = |name: &str| Field::NAMES.contains(&name);
        for field in Field::ALL {
            let name = field.as_str();
            assert_eq!(Field::of(name.as_bytes()), Some(*field));
            for other in [name.to_lowercase(), name.to_uppercase(), format!("{name} "), name[1..].to_owned()] {
                assert_eq!(Field::of(other.as_bytes()).is_some(), is_listed(&other), "{other}");
            }
        }
        assert_eq!((Field::of(b""), Field::of(b"Idd")), (None, None));
    }

    #[test]
    fn names_are_strictly_ascending() {
        for pair in Field::NAMES.windows(2) {
            assert!(pair[0].as_bytes() < pair[1].as_bytes(), "{pair:?}");
        }
    }

    #[test]
    fn names_that_are_spelt_in_two_ways_are_two_fields() {
        for (one, other) in [
            ("SenderIp", "SenderIP"),
            ("Url", "URL"),
            ("UrlClickAction", "URLClickAction"),
            ("WorkspaceName", "WorkSpaceName"),
            ("NonPIIParameters", "NonPiiParameters"),
            ("DeliveryAction", "Delivery Action"),
            ("EventSource", "eventSource"),
        ] {
            let (one, other) = (Field::of(one.as_bytes()), Field::of(other.as_bytes()));
            assert!(one.is_some() && other.is_some() && one != other, "{one:?} {other:?}");
        }
        assert_eq!(Field::of(b"recipientCount"), Some(Field::RecipientCount));
    }

    #[test]
    fn a_name_is_found_in_a_few_probes() {
        for field in Field::ALL {
            let mut at = slot(field.as_str().as_bytes());
            let mut probes = 1;
            while TABLE[at] != *field as u16 {
                at = (at + 1) % SLOTS;
                probes += 1;
            }
            assert!(probes <= 4, "{field:?} takes {probes} probes: another turn or more slots");
        }
        // What is not listed is compared with as many names as lie in a row.
        let longest = TABLE.split(|&number| number == NONE).map(<[u16]>::len).max();
        assert!(longest <= Some(6), "{longest:?} in a row");
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set = FieldSet::of(&[Field::Id, Field::YammerNetworkId]);
        assert!(set.contains(Field::Id) && set.contains(Field::YammerNetworkId) && !set.contains(Field::UserId));
        set.insert(Field::UserId);
        assert!(set.contains(Field::UserId));
        set.remove(Field::UserId);
        assert!(set.contains(Field::Id) && !set.contains(Field::UserId));
        let all = FieldSet::of(Field::ALL);
        for field in Field::ALL {
            assert!(all.contains(*field) && !FieldSet::EMPTY.contains(*field));
            let one = FieldSet::of(&[*field]);
            assert_eq!(Field::ALL.iter().filter(|other| one.contains(**other)).count(), 1);
        }
    }
}
